"""What is in the state folder that the owner would want to see? Gathers it; changes nothing."""

import time
from collections.abc import Sequence
from pathlib import Path

from mmd.conditions.kinds import CONDITIONS
from mmd.errors import StoreDamaged
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.promotion.models import ModelEntry, ModelStore
from mmd.promotion.outcome import read_outcome, read_verdict
from mmd.report.data import AccuracyRow, ConditionTrack, LossCurve, ReportData, Round, Span
from mmd.report.recent import is_daemon_running, recent
from mmd.samples.store import SampleStore
from mmd.supervisor.accounts import Cost, round_cost
from mmd.supervisor.history import History, open_history
from mmd.supervisor.timeline import STOPPED, Timeline, read_timeline
from mmd.training.losses import LossLine, read_losses
from mmd.training.plan import read_plan

MOST_ROUNDS = 10
MOST_POINTS = 400
"""Per curve; a screen shows no more."""


def collect(
    state: StateDir, *, title: str, comparison: Sequence[AccuracyRow] = (), now: float | None = None
) -> ReportData:
    """Gather the newest rounds, and all states and conditions that the history has.

    Without a `comparison` the serving models of all generations are compared.
    """
    created = time.time() if now is None else now
    models = ModelStore(state).list()
    history = open_history(state.history_db)
    spans: tuple[Span, ...] = ()
    tracks: tuple[ConditionTrack, ...] = ()
    if history is None:
        told = recent(state, None, now=created)
    else:
        with history:
            timeline = read_timeline(history, 0.0, created, is_running=is_daemon_running(state))
            spans, tracks = _spans(timeline), _tracks(history)
            told = recent(state, history, now=created)
    return ReportData(
        title=title,
        created=created,
        facts=_facts(state, models),
        recent=told,
        comparison=tuple(comparison) or _generations_compared(models),
        rounds=tuple(_round(state, number) for number in reversed(round_numbers(state)[-MOST_ROUNDS:])),
        spans=spans,
        conditions=tracks,
    )


def _facts(state: StateDir, models: Sequence[ModelEntry]) -> tuple[tuple[str, str], ...]:
    with SampleStore(state.samples_db) as store:
        counts = store.counts()
    serving = next((entry for entry in models if entry.serves), None)
    return (
        ("Samples", f"{counts.total}: {counts.labelled} labelled, {counts.unlabelled} not"),
        ("Held out", f"{counts.holdout}, never trained on"),
        ("New since the last round", str(counts.new)),
        ("Serving model", _serving_words(serving) if serving else "none verifies"),
        *([("Probation", serving.review.reason)] if serving and serving.review else []),
        ("Rounds", str(len(round_numbers(state)))),
    )


def _serving_words(entry: ModelEntry) -> str:
    words = f"generation {entry.generation}, {entry.phase}"
    return f"{words}: {entry.card.makeup}" if entry.card else words


def _generations_compared(models: Sequence[ModelEntry]) -> tuple[AccuracyRow, ...]:
    """Return what each generation scored at its gate, with the model before the first of them."""
    rows: list[AccuracyRow] = []
    for entry in models:
        verdict = entry.card.verdict if entry.card else None
        if verdict is None:
            continue
        if not rows:
            before = f"Generation {verdict.generation_before}"
            rows.append(AccuracyRow(before, verdict.holdout_right_before, verdict.holdout_total))
        note = "rolled back" if entry.phase == "withdrawn" else ""
        name = f"Generation {entry.generation}"
        rows.append(AccuracyRow(name, verdict.holdout_right_after, verdict.holdout_total, note))
    return tuple(rows)


def _round(state: StateDir, number: int) -> Round:
    folder = round_folder(state, number)
    outcome = read_outcome(folder)
    try:
        verdict = read_verdict(folder)
    except StoreDamaged:
        verdict = None  # the rest of the page is worth showing
    is_mentored = _is_mentored(folder)
    return Round(
        number=number,
        outcome=f"{outcome.outcome.capitalize()}. {outcome.reason}" if outcome else "Still open.",
        cost=_cost_words(round_cost(state, number)),
        curves=_curves(folder, is_mentored=is_mentored),
        classes=verdict.classes if verdict else (),
        confusion_before=verdict.confusion_before if verdict else None,
        confusion_after=verdict.confusion_after if verdict else None,
        is_mentored=is_mentored,
    )


def _is_mentored(folder: Path) -> bool:
    try:
        return read_plan(folder).listens_to_mentor
    except StoreDamaged:
        return True  # the plans of old rounds, and of forgotten samples, go


def _cost_words(cost: Cost) -> str:
    if not cost.seconds:
        return ""
    energy = "" if cost.watt_hours is None else f", {cost.watt_hours:.3g} Wh of the whole board"
    return f"{cost.seconds / 60:.1f} min of training{energy}"


def _curves(folder: Path, *, is_mentored: bool) -> tuple[LossCurve, ...]:
    """Return the weighted total and the plain terms, averaged down to what a screen can show.

    Where nobody asked the Mentor its terms are distances to nothing.
    """
    lines = read_losses(folder)
    if not lines:
        return ()
    width = -(-len(lines) // MOST_POINTS)
    groups = [lines[start : start + width] for start in range(0, len(lines), width)]
    steps = tuple(group[-1].step for group in groups)

    def curve(name: str, values: Sequence[Sequence[float]]) -> LossCurve:
        return LossCurve(name, steps, tuple(sum(group) / len(group) for group in values))

    taught = (
        curve("total", [[line.loss for line in group] for group in groups]),
        curve("labels", [[line.label for line in group] for group in groups]),
    )
    if not is_mentored:
        return taught
    return (
        *taught,
        curve("soft targets", [[line.soft for line in group] for group in groups]),
        *(curve(name, values) for name, values in _hint_values(groups)),
    )


def _hint_values(groups: Sequence[Sequence[LossLine]]) -> list[tuple[str, list[list[float]]]]:
    hints = len(groups[0][0].hints)
    return [
        (f"hint {index}" if hints > 1 else "hint", [[line.hints[index] for line in group] for group in groups])
        for index in range(hints)
    ]


def _spans(timeline: Timeline) -> tuple[Span, ...]:
    return tuple(
        Span(stretch.state, stretch.began, stretch.ended, ", ".join(stretch.reasons))
        for stretch in timeline.stretches
        if stretch.state != STOPPED
    )


def _tracks(history: History) -> tuple[ConditionTrack, ...]:
    samples = history.conditions()
    times = tuple(sample.at for sample in samples)
    return tuple(
        ConditionTrack(name, kind.unit, times, tuple(_number(sample.readings.get(name)) for sample in samples))
        for name, kind in CONDITIONS.items()
        if samples
    )


def _number(reading: float | bool | None) -> float | None:
    return None if reading is None else float(reading)
