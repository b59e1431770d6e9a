"""`mmd-tools bench mentoring`: does a Mentor help a fresh Mentee that has few samples? Parses, calls and shows."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmd_tools.bench.mentoring_mentors import Teacher
    from mmd_tools.bench.mentoring_run import MentoringBench, Record
    from mmd_tools.train_data import Part

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
QUICK_SIZES = (1, 10)
ALL_SIZES = (1, 10, 50, 100, 250, 500)
ALL_SEEDS = tuple(range(1, 11))
MENTEE_NAMES = ("a quarter", "a 16th", "a 64th")
"""Of the Mentor's parameters, about."""

Job = tuple[int, str]
"""A seed and a Mentee."""


@click.command("mentoring", short_help="Train fresh Mentees with and without the Mentor.")
@click.option("--dataset", type=click.Choice(["digits", "fashion"]), default="digits", show_default=True)
@click.option("--data", type=FOLDER, required=True, help="The files of `mmd-tools prepare digits`, or `fashion`.")
@click.option(
    "--set", "set_folder", type=FOLDER, help="Digits: the set whose Mentor teaches. [default: the shipped one]"
)
@click.option(
    "--mentor", type=FILE, help="Fashion: the Mentor that `mmd-tools train` made. [default: DATA/mentor.onnx]"
)
@click.option("--recipe", "recipe_file", type=FILE, help="Fashion: [default: artifacts/fashion/recipe.toml]")
@click.option("--seed", "seeds", type=int, multiple=True, help="Repeatable. [default: 1 to 10]")
@click.option("--mentee", "names", type=click.Choice(MENTEE_NAMES), multiple=True, help="Only these; repeatable.")
@click.option("--per-class", "sizes", type=click.Choice(ALL_SIZES), multiple=True, help="So many samples; repeatable.")
@click.option("--out", type=FOLDER, default=Path("docs/results"), show_default=True)
@click.option("--quick", is_flag=True, help="One seed, the smallest Mentee, few samples.")
@click.option("--resume", is_flag=True, help="Keep all that was done before; only what is not there is done.")
@click.option("--redraw", is_flag=True, help="Make table and picture again from the raw values in OUT.")
@click.option("--plot/--no-plot", "with_plot", default=True, help="The picture needs matplotlib.")
def mentoring_command(
    dataset: str,
    data: Path,
    set_folder: Path | None,
    mentor: Path | None,
    recipe_file: Path | None,
    seeds: tuple[int, ...],
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    out: Path,
    quick: bool,
    resume: bool,
    redraw: bool,
    with_plot: bool,
) -> None:
    """Train fresh Mentees of three sizes on p samples a class, with and without each of the Mentor's terms.

    Writes OUT/mentoring.json (mentoring-fashion.json) with every raw value, after every training; the tables as .md, a
    picture as .png; with --quick under names of their own.
    """
    from mmd_tools.bench.mentoring_report import MentoringResults, write_results
    from mmd_tools.bench.mentoring_run import MentoringBench
    from mmd_tools.bench.tables import conditions, read_raw, refuse_others, write_raw

    name = "mentoring" + ("-fashion" if dataset == "fashion" else "") + ("-quick" if quick else "")
    raw = out / f"{name}.json"
    if redraw:
        write_results(read_raw(raw, MentoringResults), out, with_plot=with_plot)
        return
    seeds = ALL_SEEDS[:1] if quick else seeds or ALL_SEEDS
    sizes = QUICK_SIZES if quick else sizes or ALL_SIZES
    names = MENTEE_NAMES[-1:] if quick else names or MENTEE_NAMES
    before = read_raw(raw, MentoringResults) if resume and raw.exists() else None
    with tempfile.TemporaryDirectory(prefix="mmd-mentoring-") as folder:
        if dataset == "digits":
            teacher, train, test = _digits(data, set_folder, Path(folder))
        else:
            teacher, train, test = _fashion(data, mentor, recipe_file)
        kept = [record for record in before.records if record.mentee in MENTEE_NAMES] if before is not None else []
        where = conditions(_command(dataset, seeds, names, sizes, kept), teacher.name, teacher.sha256)
        if before is not None:
            refuse_others(before.conditions, where, free=r' --(seed|per-class) \d+| --mentee "[^"]*"')
        bench = MentoringBench(teacher, train, test, Path(folder))
        # Seed by seed, so that the first of them is done for every Mentee soon.
        jobs = [(seed, mentee) for seed in seeds for mentee in names]
        for records in _run(bench, jobs, sizes, kept):
            results = MentoringResults(bench=name, dataset=dataset, conditions=where, records=records)
            # After every training: whoever stops a long run keeps what is done, and --redraw shows it.
            write_raw(raw, results, lines_of="records")
    write_results(results, out, with_plot=with_plot)
    click.echo((out / f"{name}.md").read_text(encoding="utf-8"))


def _run(
    bench: "MentoringBench", jobs: list[Job], sizes: tuple[int, ...], kept: "list[Record]"
) -> "Iterator[list[Record]]":
    """Yield the records so far, the Mentor's and the kept ones first, after every training."""
    from rich.console import Console

    console = Console(stderr=True)
    records = [bench.mentor_record(), *kept]
    yield records
    done = {record.cell for record in kept}
    for seed, mentee in jobs:
        for record in bench.records(seed, mentee, sizes, done):
            records.append(record)
            if console.is_terminal:
                share = 100 * record.right / record.total
                console.print(f"seed {seed}  {record.mentee}  {record.per_class:3}  {record.row:22} {share:.2f}")
            yield records


def _digits(data: Path, set_folder: Path | None, folder: Path) -> "tuple[Teacher, Part, Part]":
    from mmd.artifact.load import open_set
    from mmd.artifact.shipped import shipped_set
    from mmd_tools.bench.mentoring_mentors import digits_parts, teacher_of_set

    return teacher_of_set(open_set(set_folder or shipped_set()), folder), *digits_parts(data)


def _fashion(data: Path, mentor: Path | None, recipe_file: Path | None) -> "tuple[Teacher, Part, Part]":
    from mmd_tools.bench.mentoring_mentors import fashion_parts, teacher_of_recipe
    from mmd_tools.recipe_check import load_recipe

    recipe = load_recipe(recipe_file or Path("artifacts") / "fashion" / "recipe.toml")
    return teacher_of_recipe(recipe, mentor or data / "mentor.onnx"), *fashion_parts(data)


def _command(
    dataset: str, seeds: tuple[int, ...], names: tuple[str, ...], sizes: tuple[int, ...], kept: "list[Record]"
) -> str:
    """Return the command line that runs the same again, or what a run that was stopped had come to as well."""
    seeds = tuple(sorted({*seeds, *(record.seed for record in kept)}))
    names = tuple(name for name in MENTEE_NAMES if name in {*names, *(record.mentee for record in kept)})
    sizes = tuple(sorted({*sizes, *(record.per_class for record in kept)}))
    parts = ["--dataset fashion"] if dataset == "fashion" else []
    parts += [f"--seed {seed}" for seed in seeds] if seeds != ALL_SEEDS else []
    parts += [f'--mentee "{name}"' for name in names] if names != MENTEE_NAMES else []
    parts += [f"--per-class {size}" for size in sizes] if sizes != ALL_SIZES else []
    return " ".join(["mmd-tools bench mentoring --data DATA", *parts])
