"""How does the bench of mentoring look on paper? A table a Mentee, and a picture."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd_tools.bench.mentoring_run import INDEPENDENT, MENTOR, ROWS, Record
from mmd_tools.bench.plots import Line, Panel, draw
from mmd_tools.bench.tables import Conditions, markdown_table, write_raw, write_text

Doubles = NDArray[np.float64]

TITLES = {
    "digits": ("Fresh Mentees on a few digits a class", "MNIST's {:,} test digits", "four convolutions"),
    "fashion": ("Fresh Mentees on a few garments a class", "Fashion-MNIST's {:,} test pictures", "of VGG's kind"),
}
"""Of the table, what it was scored on, and what the Mentor is."""


class MentoringResults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `mentoring.json`."""

    bench: str
    dataset: str = "digits"
    conditions: Conditions
    columns: tuple[str, ...] = Record.__struct_fields__
    records: list[Record]

    def accuracies(self, mentee: str, per_class: int, row: str) -> dict[int, float]:
        """Return the accuracy in percent by seed, in the order of the seeds."""
        return dict(
            sorted(
                (one.seed, 100 * one.right / one.total)
                for one in self.records
                if (one.mentee, one.per_class, one.row) == (mentee, per_class, row)
            )
        )

    def gains(self, mentee: str, per_class: int, row: str) -> Doubles:
        """Return the accuracy of `row` less that of labels alone, for the seeds that have both."""
        base = self.accuracies(mentee, per_class, INDEPENDENT)
        ours = self.accuracies(mentee, per_class, row)
        return np.array([ours[seed] - base[seed] for seed in ours if seed in base])

    def names(self) -> list[str]:
        """Return the Mentees, the largest first."""
        counts = {one.mentee: one.parameters for one in self.records if one.mentee != MENTOR}
        return sorted(counts, key=counts.__getitem__, reverse=True)

    def sizes(self) -> list[int]:
        return sorted({one.per_class for one in self.records if one.mentee != MENTOR})

    def seeds(self, mentee: str) -> int:
        """Return how many seeds there are of the Mentee; a cell may have fewer."""
        return len({one.seed for one in self.records if one.mentee == mentee})

    def parameters(self, mentee: str) -> int:
        return next(one.parameters for one in self.records if one.mentee == mentee)


def write_results(results: MentoringResults, folder: Path, *, with_plot: bool = True) -> None:
    write_raw(folder / f"{results.bench}.json", results, lines_of="records")
    write_text(folder / f"{results.bench}.md", markdown(results))
    if with_plot:
        draw_mentoring(folder / f"{results.bench}.png", results)


def markdown(results: MentoringResults) -> str:
    (mentor,) = [one for one in results.records if one.mentee == MENTOR]
    where = results.conditions
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    title, test, kind = TITLES[results.dataset]
    introduction = (
        f"# {title}\n\n"
        f"Accuracy in percent on {test.format(mentor.total)}, mean and standard deviation over the seeds; in brackets "
        "the mean paired difference from *independent* in points, and its two-sided p (all sign flips of the seeds' "
        "differences, Fisher 1935; with s seeds it is never below 2 / 2^s, and of so many one in twenty is by chance "
        "below 0.05). Every row of a seed has the same samples, start, number of steps and learning rate, and its last "
        "step is scored: no checkpoint is chosen. The learning rate is that of three with which labels alone did best "
        "on digits that are in no table. *PCA hints*: the Mentee follows the Mentor's layer on its principal axes and "
        "not through a trained projector. *of n*: fewer seeds were done. "
        f"The Mentor ({mentor.parameters:,} parameters, {kind}; it never saw what is scored): "
        f"{100 * mentor.right / mentor.total:.2f}.\n"
    )
    tables = [_table(results, mentee, mentor.parameters) for mentee in results.names()]
    footer = (
        f"`{where.command}` on {where.cores} cores of {where.machine}; Mentor of {where.artifact_set} "
        f"`{where.artifact_sha256[:12]}`; {versions}. Raw values: [{results.bench}.json]({results.bench}.json).\n"
    )
    return "\n".join([introduction, *tables, footer])


def _table(results: MentoringResults, mentee: str, of_mentor: int) -> str:
    sizes, count, seeds = results.sizes(), results.parameters(mentee), results.seeds(mentee)
    rows = [(row, *(_cell(results, mentee, size, row, seeds) for size in sizes)) for row in ROWS]
    table = markdown_table(("samples a class", *map(str, sizes)), rows)
    title = f"## {count:,} parameters, 1/{of_mentor / count:.0f} of the Mentor's; {seeds} seed(s)"
    return f"{title}\n\n{table}"


def _cell(results: MentoringResults, mentee: str, size: int, row: str, seeds: int) -> str:
    values = np.array([*results.accuracies(mentee, size, row).values()])
    if not len(values):
        return "-"
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    fewer = f" of {len(values)}" if len(values) < seeds else ""
    gains = results.gains(mentee, size, row)
    if row == INDEPENDENT or len(gains) < 2:
        return f"{values.mean():.2f}{spread}{fewer}"
    return f"{values.mean():.2f}{spread} ({gains.mean():+.2f}, {sign_flip_p(gains):.2g}){fewer}"


def sign_flip_p(differences: Doubles) -> float:
    """Return how often the mean under random signs is at least as far from 0 as the observed one."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    means = np.abs(signs @ differences)
    return float((means >= abs(differences.sum()) - 1e-9).mean())


def draw_mentoring(path: Path, results: MentoringResults) -> None:
    sizes = results.sizes()
    panels = [_panel(results, mentee, sizes) for mentee in results.names()]
    title = f"{TITLES[results.dataset][0]}: gain over labels alone"
    draw(path, panels, sizes=sizes, x_label="samples a class", title=title)


def _panel(results: MentoringResults, mentee: str, sizes: Sequence[int]) -> Panel:
    lines, counted = [], []
    for row in ROWS:
        gains = [results.gains(mentee, size, row) for size in sizes]
        counted.append(gains)
        if row == INDEPENDENT or not any(map(len, gains)):
            continue
        means, spreads = zip(*map(_mean_and_error, gains), strict=True)
        lines.append(
            Line(
                row,
                means,
                [mean - spread for mean, spread in zip(means, spreads, strict=True)],
                [mean + spread for mean, spread in zip(means, spreads, strict=True)],
            )
        )
    most, fewest = results.seeds(mentee), min(map(len, (gain for line in counted for gain in line)), default=0)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    title = f"{results.parameters(mentee):,} parameters, {seeds} seed(s)"
    return Panel(title, "points; bars: standard error", lines, zero=True)


def _mean_and_error(gains: Doubles) -> tuple[float, float]:
    """Return the mean and its standard error: nan where there is nothing, no error where there is one."""
    if not len(gains):
        return math.nan, 0.0
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(gains.mean()), error
