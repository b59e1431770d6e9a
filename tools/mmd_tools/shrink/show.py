"""How is the frontier seen? As a table, as rows of JSON, and as a picture with the board's budget in it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from mmd_tools.shrink.budget import Budget
from mmd_tools.shrink.frontier import Candidate
from mmd_tools.tables import print_table

_HEADINGS = ("", "width", "depth", "resolution", "parameters", "step MiB", "step ms", "trainer MiB", "round min")


def row(candidate: Candidate, best: Candidate | None) -> dict[str, Any]:
    """Return one candidate for `--json`, without its bytes."""
    values = asdict(candidate)
    del values["model"]
    return {**values.pop("factors"), **values, "fits": candidate.fits, "chosen": candidate is best}


def told(budget: Budget) -> dict[str, Any]:
    """Return the budget for `--json`, null where the board gives without end."""
    ends = {"memory_bytes": budget.memory_bytes, "minutes": budget.minutes}
    finite = {key: value if math.isfinite(value) else None for key, value in ends.items()}
    return {**asdict(budget), **finite, "steps": budget.steps}


def show_table(candidates: Sequence[Candidate], best: Candidate | None, budget: Budget) -> None:
    """Print the table, and what the budget is."""
    is_judged = any(each.accuracy is not None for each in candidates)
    numbers = (*_HEADINGS, "accuracy")
    headings = (*_HEADINGS, *(["accuracy"] if is_judged else []), "fits")
    rows = [
        (
            "*" if each is best else "",
            *(f"{factor:g}" for factor in asdict(each.factors).values()),
            f"{each.parameters:,}",
            f"{each.step_bytes / 2**20:.1f}",
            f"{each.step_ms:.1f}",
            f"{each.trainer_bytes / 2**20:.0f}",
            f"{each.round_minutes:.2f}",
            *([f"{each.accuracy:.4f}" if each.accuracy is not None else ""] if is_judged else []),
            "yes" if each.fits else f"no: {' and '.join(each.exceeds)}",
        )
        for each in candidates
    ]
    print_table(headings, rows, right=numbers)
    click.echo(described(budget))


def described(budget: Budget) -> str:
    """Say what the board gives, and what a round is."""
    given = []
    if math.isfinite(budget.memory_bytes):
        given.append(f"{budget.memory_bytes / 2**20:.0f} MiB for the trainer")
    if math.isfinite(budget.minutes):
        given.append(f"{budget.minutes:g} minutes a round")
    speed = f" On a board {budget.slowdown:g} times as slow as this machine." if budget.slowdown != 1 else ""
    return (
        f"Budget: {' and '.join(given) or 'none'}. A round: {budget.steps} steps of {budget.batch} samples, "
        f"{budget.replay:.0%} of them replayed ({budget.epochs} epochs of {budget.samples}, {budget.folds} models for "
        f"the gate beside the candidate); before them the Mentor, {budget.asked:,} times "
        f"{budget.asking.ms:.1f} ms in {budget.asking.bytes / 2**20:.1f} MiB; after them {budget.answers:,} answers "
        f"for the gate.{speed}"
    )


def picture(candidates: Sequence[Candidate], best: Candidate | None, budget: Budget) -> bytes:
    """Return the frontier as PNG: memory and time against accuracy, or against parameters where nothing was judged."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    is_judged = any(each.accuracy is not None for each in candidates)
    panels = (
        ("trainer_bytes", "memory of the trainer, MiB", 2**20, budget.memory_bytes),
        ("round_minutes", "time of a round, minutes", 1, budget.minutes),
    )
    for axes, (key, title, unit, limit) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.set(xlabel=title, ylabel="accuracy" if is_judged else "parameters")
        axes.margins(0.15)
        if math.isfinite(limit):
            axes.axvline(limit / unit, color="grey", linestyle="--", linewidth=1)
        for each in candidates:
            # What was not judged stands at the foot of the picture: its cost is known, its accuracy is not.
            is_at_foot = is_judged and each.accuracy is None
            height = 0.02 if is_at_foot else each.accuracy if is_judged else each.parameters
            place = axes.get_xaxis_transform() if is_at_foot else axes.transData
            marker = "*" if each is best else "o" if each.fits else "x"
            at = getattr(each, key) / unit
            axes.plot(at, height, marker=marker, color="black", ms=12 if each is best else 6, transform=place)
            label = " / ".join(f"{factor:g}" for factor in asdict(each.factors).values())
            style = {"fontsize": 7, "rotation": 60 if is_at_foot else 0}
            axes.annotate(label, (at, height), xycoords=place, xytext=(6, 4), textcoords="offset points", **style)
    figure.suptitle("width / depth / resolution; star: chosen, cross: beyond the budget (dashed)")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()
