"""How does the bench of mentoring look on paper? A table a Mentee, and a picture."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd_tools.bench.mentoring_run import INDEPENDENT, MENTOR, ROWS, Record
from mmd_tools.bench.plots import Line, Panel, draw
from mmd_tools.bench.tables import Conditions, markdown_table, write_raw, write_text

Doubles = NDArray[np.float64]


class MentoringResults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `mentoring.json`."""

    bench: str
    conditions: Conditions
    columns: tuple[str, ...] = Record.__struct_fields__
    records: list[Record]

    def accuracies(self, mentee: str, per_class: int, row: str) -> Doubles:
        """Return the accuracy in percent of each seed, in the order of the seeds."""
        chosen = sorted(
            (one.seed, 100 * one.right / one.total)
            for one in self.records
            if (one.mentee, one.per_class, one.row) == (mentee, per_class, row)
        )
        return np.array([accuracy for _, accuracy in chosen])

    def names(self) -> list[str]:
        return list(dict.fromkeys(one.mentee for one in self.records if one.mentee != MENTOR))

    def sizes(self) -> list[int]:
        return sorted({one.per_class for one in self.records if one.mentee != MENTOR})

    def parameters(self, mentee: str) -> int:
        return next(one.parameters for one in self.records if one.mentee == mentee)


def write_results(results: MentoringResults, folder: Path, *, with_plot: bool = True) -> None:
    write_raw(folder / f"{results.bench}.json", results, lines_of="records")
    write_text(folder / f"{results.bench}.md", markdown(results))
    if with_plot:
        draw_mentoring(folder / f"{results.bench}.png", results)


def markdown(results: MentoringResults) -> str:
    (mentor,) = [one for one in results.records if one.mentee == MENTOR]
    seeds = len({one.seed for one in results.records if one.mentee != MENTOR})
    where = results.conditions
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    introduction = (
        "# Fresh Mentees on a few digits a class\n\n"
        f"Accuracy in percent on MNIST's {mentor.total:,} test digits, mean and standard deviation over {seeds} "
        "seed(s), and in brackets the two-sided p of the paired difference from *independent* (all sign flips of the "
        "seeds' differences, Fisher 1935; with s seeds it cannot be below 2 / 2^s). Every row of a seed has the same "
        "digits, start, number of steps and learning rate; nothing is selected. The Mentor "
        f"({mentor.parameters:,} parameters; it never saw a test digit): {100 * mentor.right / mentor.total:.2f}.\n"
    )
    tables = [_table(results, mentee, mentor.parameters) for mentee in results.names()]
    footer = (
        f"`{where.command}` on {where.cores} cores of {where.machine}; set {where.artifact_set} "
        f"`{where.artifact_sha256[:12]}`; {versions}. Raw values: [{results.bench}.json]({results.bench}.json).\n"
    )
    return "\n".join([introduction, *tables, footer])


def _table(results: MentoringResults, mentee: str, of_mentor: int) -> str:
    sizes, count = results.sizes(), results.parameters(mentee)
    rows = [(row, *(_cell(results, mentee, size, row) for size in sizes)) for row in ROWS]
    table = markdown_table(("digits a class", *map(str, sizes)), rows)
    return f"## {count:,} parameters, 1/{of_mentor / count:.0f} of the Mentor's\n\n{table}"


def _cell(results: MentoringResults, mentee: str, size: int, row: str) -> str:
    values = results.accuracies(mentee, size, row)
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    if row == INDEPENDENT or len(values) < 2:
        return f"{values.mean():.2f}{spread}"
    chance = sign_flip_p(values - results.accuracies(mentee, size, INDEPENDENT))
    return f"{values.mean():.2f}{spread} ({chance:.2g})"


def sign_flip_p(differences: Doubles) -> float:
    """Return how often the mean under random signs is at least as far from 0 as the observed one."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    means = np.abs(signs @ differences)
    return float((means >= abs(differences.sum()) - 1e-9).mean())


def draw_mentoring(path: Path, results: MentoringResults) -> None:
    sizes = results.sizes()
    panels = [_panel(results, mentee, sizes) for mentee in results.names()]
    draw(path, panels, sizes=sizes, x_label="digits a class", title="Fresh Mentees: gain over labels alone")


def _panel(results: MentoringResults, mentee: str, sizes: Sequence[int]) -> Panel:
    lines = []
    for row in ROWS:
        if row == INDEPENDENT:
            continue
        gains = [
            results.accuracies(mentee, size, row) - results.accuracies(mentee, size, INDEPENDENT) for size in sizes
        ]
        lines.append(
            Line(
                row,
                [float(gain.mean()) for gain in gains],
                [float(np.min(gain)) for gain in gains],
                [float(np.max(gain)) for gain in gains],
            )
        )
    return Panel(f"{results.parameters(mentee):,} parameters", "points; bars: all seeds", lines, zero=True)
