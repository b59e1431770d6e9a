"""`mmd-tools bench owners`: what does the product do for people it has never seen? Parses, calls and shows."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmd.artifact.load import ArtifactSet
    from mmd_tools.bench.owners_data import Group, Owner
    from mmd_tools.bench.owners_report import OwnersResults
    from mmd_tools.bench.owners_rounds import Lesson
    from mmd_tools.bench.owners_run import Record
    from mmd_tools.bench.tables import Conditions

    Person = tuple[Owner, ArtifactSet]

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
QUICK_OWNERS, QUICK_SIZES = 3, (10, 50)
_NAMES = {"digits": "owners", "speech": "speakers", "motion": "movers"}


@click.command("owners", short_help="Let the product learn from each of many owners.")
@click.option("--kind", type=click.Choice(["digits", "speech", "motion"]), default="digits", show_default=True)
@click.option("--data", type=FOLDER, help="The public files of the kind. Digits without it: the one shipped owner.")
@click.option("--set", "set_folder", type=FOLDER, help="Digits: the artifact set. [default: the shipped one]")
@click.option("--recipe", "recipe_file", type=FILE, help="The others: [default: artifacts/KIND/recipe.toml]")
@click.option("--sets", type=FOLDER, help="The others: where a set a person lies, or is made (minutes each).")
@click.option("--owners", "count", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Repeatable.")
@click.option("--row", "rows", multiple=True, metavar="ROW", help="Only this round of the table; repeatable.")
@click.option("--out", type=FOLDER, default=Path("docs/results"), show_default=True)
@click.option("--search", is_flag=True, help="Other defaults instead of other methods, on the development owners.")
@click.option("--partly", is_flag=True, help="The owners label a fifth of their samples.")
@click.option("--quick", is_flag=True, help=f"{QUICK_OWNERS} owners, one seed, {len(QUICK_SIZES)} sizes.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Owners measured at once.")
@click.option("--resume", is_flag=True, help="Keep who was done before; --owners and --seed may differ.")
@click.option("--redraw", is_flag=True, help="Make table and picture again from the raw values in OUT.")
@click.option("--plot/--no-plot", "with_plot", default=True, help="The picture needs matplotlib.")
def owners_command(
    kind: str,
    data: Path | None,
    set_folder: Path | None,
    recipe_file: Path | None,
    sets: Path | None,
    count: int,
    seeds: tuple[int, ...],
    rows: tuple[str, ...],
    out: Path,
    search: bool,
    partly: bool,
    quick: bool,
    jobs: int,
    resume: bool,
    redraw: bool,
    with_plot: bool,
) -> None:
    """Let the product learn from each of many owners, and score it on samples that it never saw.

    Digits: writers, all with one set. Speech and motion: each person with a set that was made of the others' samples.

    Writes OUT/owners.json (speakers.json, movers.json) with every raw value, the tables as .md, a picture as .png;
    with --search, --partly and --quick under names of their own.
    """
    from mmd_tools.bench.owners_report import OwnersResults, write_results
    from mmd_tools.bench.tables import read_raw, write_raw

    if search and partly:
        raise UsageError("--search and --partly are two different tables; ask for one of them.")
    variant = "search" if search else "partly" if partly else ""
    name = "-".join(filter(None, (_NAMES[kind], variant, "quick" if quick else "")))
    if redraw:
        write_results(read_raw(out / f"{name}.json", OwnersResults), out, with_plot=with_plot)
        return
    if kind != "digits":
        people = _strangers(kind, data, recipe_file, sets)
    else:
        people = _writers(data, set_folder, QUICK_OWNERS if quick else count, "development" if search else "report")
    sizes = _sizes(kind, variant, quick=quick)
    lessons = _lessons(rows, variant, quick=quick)
    raw = out / f"{name}.json"
    before = read_raw(raw, OwnersResults) if resume and raw.exists() else None
    for results in _run(name, kind, people, seeds[:1] if quick else seeds, sizes, lessons, jobs, rows, before):
        # After every owner: whoever stops a long run keeps what is done, and --redraw shows it.
        write_raw(raw, results, lines_of="records")
    write_results(results, out, with_plot=with_plot)
    click.echo((out / f"{name}.md").read_text(encoding="utf-8"))


def _lessons(rows: tuple[str, ...], variant: str, *, quick: bool) -> "dict[str, Lesson]":
    from mmd_tools.bench.owners_run import LESSONS, PARTLY, QUICK_ROWS, SEARCH

    lessons = {"search": SEARCH, "partly": PARTLY}.get(variant, LESSONS)
    chosen = rows or tuple(row for row in lessons if not quick or row in QUICK_ROWS)
    for row in chosen:
        if row not in lessons:
            raise UsageError(f"There is no row `{row}`; there are: {', '.join(lessons)}.")
    return {row: lesson for row, lesson in lessons.items() if row in chosen}


def _sizes(kind: str, variant: str, *, quick: bool) -> tuple[int, ...]:
    from mmd_tools.bench import owners_data, strangers

    if quick:
        return QUICK_SIZES
    sizes = strangers.SIZES.get(kind, owners_data.SIZES)
    return sizes[-2:] if variant else sizes


def _writers(data: Path | None, set_folder: Path | None, count: int, group: "Group") -> "list[Person]":
    from mmd.artifact.load import open_set
    from mmd.artifact.shipped import shipped_owner, shipped_set
    from mmd_tools.bench.owners_data import choose_owners, read_owners, read_pictures

    artifact_set = open_set(set_folder or shipped_set())
    if data is None:
        return [(read_pictures(shipped_owner(), "the shipped owner"), artifact_set)]
    return [(owner, artifact_set) for owner in choose_owners(read_owners(data), count, group)]


def _strangers(kind: str, data: Path | None, recipe_file: Path | None, sets: Path | None) -> "list[Person]":
    from mmd.errors import UsageError
    from mmd_tools.bench.strangers import read_people
    from mmd_tools.recipe_check import load_recipe

    if data is None or sets is None:
        raise UsageError(f"--kind {kind} needs --data with the public files and --sets for what is made of them.")
    recipe = load_recipe(recipe_file or Path("artifacts") / kind / "recipe.toml")
    return list(read_people(kind, data, recipe, sets, lambda stage: click.echo(stage, err=True)))


def _run(
    name: str,
    kind: str,
    people: "list[Person]",
    seeds: tuple[int, ...],
    sizes: tuple[int, ...],
    lessons: "dict[str, Lesson]",
    processes: int,
    rows: tuple[str, ...] = (),
    before: "OwnersResults | None" = None,
) -> "Iterator[OwnersResults]":
    """Yield the results so far after every owner; who is in the results `before` is not asked again."""
    from rich.console import Console
    from rich.progress import track

    from mmd_tools.bench.owners_jobs import measure
    from mmd_tools.bench.owners_report import OwnersResults
    from mmd_tools.bench.tables import conditions

    is_search = "search" in name
    console = Console(stderr=True)
    given = "".join(f" --seed {seed}" for seed in seeds) + (" --search" if is_search else "")
    given += " --partly" if "partly" in name else ""
    given += "".join(f' --row "{row}"' for row in rows)
    chosen = f"--owners {len(people)}" if kind == "digits" else f"--kind {kind} --sets SETS"
    names, hashes = (dict.fromkeys(values) for values in zip(*map(_named, people), strict=True))
    where = conditions(f"mmd-tools bench owners --data DATA {chosen}{given}", ", ".join(names), " ".join(hashes))
    # Seed by seed, so that the first of them is done for everybody soon.
    jobs = [(seed, *person) for seed in seeds for person in people]
    records = _kept(before, where, {(seed, owner.name) for seed, owner, _ in jobs}) if before is not None else []
    done = {(record.seed, record.owner) for record in records}
    left = [job for job in jobs if (job[0], job[1].name) not in done]
    group: Group = "development" if is_search else "report"
    results = OwnersResults(bench=name, kind=kind, group=group, conditions=where, records=records)
    yield results
    measured = measure(left, lessons=lessons, sizes=sizes, processes=processes)
    for of_owner in track(measured, description="", total=len(left), console=console, disable=not console.is_terminal):
        records.extend(of_owner)
        yield results


def _kept(before: "OwnersResults", now: "Conditions", wanted: set[tuple[int, str]]) -> "list[Record]":
    """Return the records of `wanted` seeds and owners; `UsageError` if they are not what would come out now."""
    from mmd_tools.bench.tables import refuse_others

    refuse_others(before.conditions, now, free=r" --(owners|seed) \d+")
    return [record for record in before.records if (record.seed, record.owner) in wanted]


def _named(person: "Person") -> tuple[str, str]:
    artifact_set = person[1]
    return artifact_set.manifest.name, artifact_set.sha256[:12]
