"""`mmd-tools bench mentoring`: does a Mentor help a fresh Mentee that has few samples? Parses, calls and shows."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mmd_tools.bench.mentoring_run import Record

FOLDER = click.Path(path_type=Path, file_okay=False)
QUICK_SIZES = (1, 10)
ALL_SIZES = (1, 10, 50, 100, 250, 500)
MENTEE_NAMES = ("a quarter", "a 16th", "a 64th")
"""Of the Mentor's parameters, about."""


@click.command("mentoring")
@click.option("--data", type=FOLDER, required=True, help="The files of `mmd-tools prepare digits`.")
@click.option("--set", "set_folder", type=FOLDER, help="The set whose Mentor teaches. [default: the shipped one]")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Give it again.")
@click.option("--mentee", "names", type=click.Choice(MENTEE_NAMES), multiple=True, help="Only these. Give it again.")
@click.option("--digits", "sizes", type=click.Choice(ALL_SIZES), multiple=True, help="A class. Give it again.")
@click.option("--out", type=FOLDER, default=Path("docs/results"), show_default=True)
@click.option("--quick", is_flag=True, help="One seed, the smallest Mentee, few digits.")
@click.option("--redraw", is_flag=True, help="Make table and picture again from the raw values in OUT.")
@click.option("--plot/--no-plot", "with_plot", default=True, help="The picture needs matplotlib.")
def mentoring_command(
    data: Path,
    set_folder: Path | None,
    seeds: tuple[int, ...],
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    out: Path,
    quick: bool,
    redraw: bool,
    with_plot: bool,
) -> None:
    """Train fresh Mentees of three sizes on p digits a class, with and without each of the Mentor's terms.

    Writes OUT/mentoring.json with every raw value, mentoring.md with the tables, mentoring.png; with --quick under
    names of their own.
    """
    from rich.console import Console

    from mmd.artifact.load import open_set
    from mmd.artifact.shipped import shipped_set
    from mmd_tools.bench.mentoring_report import MentoringResults, write_results
    from mmd_tools.bench.mentoring_run import MentoringBench
    from mmd_tools.bench.tables import conditions, read_raw
    from mmd_tools.prepare_digits import read_digits, read_test_digits, split_by_writer
    from mmd_tools.train_data import Part

    name = "mentoring-quick" if quick else "mentoring"
    if redraw:
        write_results(read_raw(out / f"{name}.json", MentoringResults), out, with_plot=with_plot)
        return
    artifact_set = open_set(set_folder or shipped_set())
    digits = read_digits(data)
    is_train = split_by_writer(digits) == 0
    train, test = Part(digits.inputs[is_train], digits.labels[is_train]), Part(*read_test_digits(data))
    seeds = seeds[:1] if quick else seeds
    sizes = QUICK_SIZES if quick else sizes or ALL_SIZES
    names = MENTEE_NAMES[-1:] if quick else names or MENTEE_NAMES
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="mmd-mentoring-") as folder:
        bench = MentoringBench(artifact_set, train, test, Path(folder))
        records: list[Record] = [bench.mentor_record()]
        for seed in seeds:
            for record in bench.records(seed, sizes, names):
                records.append(record)
                if console.is_terminal:
                    share = 100 * record.right / record.total
                    console.print(f"seed {seed}  {record.mentee}  {record.per_class:3}  {record.row:22} {share:.2f}")
    where = conditions(_command(seeds, names, sizes), artifact_set.manifest.name, artifact_set.sha256)
    write_results(MentoringResults(bench=name, conditions=where, records=records), out, with_plot=with_plot)
    click.echo((out / f"{name}.md").read_text(encoding="utf-8"))


def _command(seeds: tuple[int, ...], names: tuple[str, ...], sizes: tuple[int, ...]) -> str:
    """Return the command line that runs the same again."""
    parts = [f"--seed {seed}" for seed in seeds]
    parts += [f'--mentee "{name}"' for name in names] if names != MENTEE_NAMES else []
    parts += [f"--digits {size}" for size in sizes] if sizes != ALL_SIZES else []
    return f"mmd-tools bench mentoring --data DATA {' '.join(parts)}"
