"""`mmd-tools bench owners`: what does the product do for people it has never seen? Parses, calls and shows."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmd.artifact.load import ArtifactSet
    from mmd_tools.bench.owners_data import Group, Owner
    from mmd_tools.bench.owners_report import OwnersResults
    from mmd_tools.bench.owners_run import Record

FOLDER = click.Path(path_type=Path, file_okay=False)
QUICK_OWNERS, QUICK_SIZES = 3, (10, 50)


@click.command("owners")
@click.option("--data", type=FOLDER, help="The files of `mmd-tools prepare digits`. Without it: the one shipped owner.")
@click.option("--set", "set_folder", type=FOLDER, help="The artifact set. [default: the shipped one]")
@click.option("--owners", "count", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Give it again.")
@click.option("--out", type=FOLDER, default=Path("docs/results"), show_default=True)
@click.option("--search", is_flag=True, help="Other defaults instead of other methods, on the development owners.")
@click.option("--quick", is_flag=True, help=f"{QUICK_OWNERS} owners, one seed, {len(QUICK_SIZES)} sizes.")
@click.option("--redraw", is_flag=True, help="Make table and picture again from the raw values in OUT.")
@click.option("--plot/--no-plot", "with_plot", default=True, help="The picture needs matplotlib.")
def owners_command(
    data: Path | None,
    set_folder: Path | None,
    count: int,
    seeds: tuple[int, ...],
    out: Path,
    search: bool,
    quick: bool,
    redraw: bool,
    with_plot: bool,
) -> None:
    """Let the product learn from each of many owners, and score it on digits that it never saw.

    Writes OUT/owners.json with every raw value, owners.md with the tables, owners.png; with --search and --quick under
    names of their own.
    """
    from mmd.artifact.load import open_set
    from mmd.artifact.shipped import shipped_set
    from mmd_tools.bench.owners_data import SIZES
    from mmd_tools.bench.owners_report import OwnersResults, write_results
    from mmd_tools.bench.tables import read_raw, write_raw

    name = "owners" + ("-search" if search else "") + ("-quick" if quick else "")
    if redraw:
        write_results(read_raw(out / f"{name}.json", OwnersResults), out, with_plot=with_plot)
        return
    artifact_set = open_set(set_folder or shipped_set())
    people = _people(data, QUICK_OWNERS if quick else count, "development" if search else "report")
    seeds, sizes = (seeds[:1], QUICK_SIZES) if quick else (seeds, SIZES[-2:] if search else SIZES)
    for results in _run(name, artifact_set, people, seeds, sizes):
        # After every owner: whoever stops a long run keeps what is done, and --redraw shows it.
        write_raw(out / f"{name}.json", results, lines_of="records")
    write_results(results, out, with_plot=with_plot)
    click.echo((out / f"{name}.md").read_text(encoding="utf-8"))


def _people(data: Path | None, count: int, group: "Group") -> "list[Owner]":
    from mmd.artifact.shipped import shipped_owner
    from mmd_tools.bench.owners_data import choose_owners, read_owners, read_pictures

    if data is None:
        return [read_pictures(shipped_owner(), "the shipped owner")]
    return choose_owners(read_owners(data), count, group)


def _run(
    name: str, artifact_set: "ArtifactSet", people: "list[Owner]", seeds: tuple[int, ...], sizes: tuple[int, ...]
) -> "Iterator[OwnersResults]":
    """Yield the results so far after every owner."""
    from rich.console import Console
    from rich.progress import track

    from mmd_tools.bench.owners_memory import MemoryTuning
    from mmd_tools.bench.owners_report import OwnersResults
    from mmd_tools.bench.owners_run import LESSONS, SEARCH, OwnersBench
    from mmd_tools.bench.tables import conditions

    is_search = "search" in name
    bench = OwnersBench(artifact_set, lessons=SEARCH if is_search else LESSONS, tuning=MemoryTuning())
    console = Console(stderr=True)
    given = "".join(f" --seed {seed}" for seed in seeds) + (" --search" if is_search else "")
    command = f"mmd-tools bench owners --data DATA --owners {len(people)}{given}"
    where = conditions(command, artifact_set.manifest.name, artifact_set.sha256)
    # Seed by seed, so that the first of them is done for everybody soon.
    jobs = [(seed, owner) for seed in seeds for owner in people]
    records: list[Record] = []
    for seed, owner in track(jobs, description="", console=console, disable=not console.is_terminal):
        records.extend(bench.records(owner, seed, sizes))
        yield OwnersResults(
            bench=name, group="development" if is_search else "report", conditions=where, records=records
        )
