"""What do `mmd status` and `mmd why` say? The answers as plain data."""

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from mmd.artifact.card import generation_folder, generations, is_withdrawn, linked_generation, read_card
from mmd.artifact.review import Review, phase_of, read_review
from mmd.conditions import Conditions, Reading, Usage
from mmd.conditions.kinds import CONDITIONS
from mmd.config import Config
from mmd.errors import StoreDamaged
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.policy import Mode, Reason
from mmd.policy.levels import standing
from mmd.promotion.outcome import read_outcome, read_verdict
from mmd.samples.records import SampleCounts
from mmd.samples.row_cache import cache_bytes
from mmd.supervisor.accounts import Cost
from mmd.supervisor.memory import lesson_in_force
from mmd.supervisor.progress import Progress
from mmd.supervisor.states import State

Json = dict[str, Any]


def status_view(
    state_dir: StateDir,
    config: Config,
    *,
    state: State,
    mode: Mode,
    reasons: Sequence[Reason],
    conditions: Conditions,
    counts: SampleCounts,
    progress: Progress | None,
    cost: Cost,
    usage: Usage,
    is_daemon: bool,
) -> Json:
    """Return everything that `mmd status --json` prints."""
    return {
        "state": state.value,
        "mode": mode.value,
        "reasons": reasons_view(reasons),
        "conditions": conditions_view(conditions, config),
        "samples": {
            "total": counts.total,
            "labelled": counts.labelled,
            "unlabelled": counts.unlabelled,
            "holdout": counts.holdout,
            "new": counts.new,
            "bytes": counts.bytes,
            "cache_bytes": cache_bytes(state_dir.cache_db),
        },
        "round": None if progress is None else _progress_view(progress, cost),
        "usage": {
            "minutes_today": round(usage.minutes_trained_today, 2),
            "watt_hours_today": _rounded(usage.watt_hours_today),
        },
        "model": model_view(state_dir, now=conditions.at.wall),
        "verdict": verdict_view(state_dir),
        "memory": memory_view(state_dir, config),
        "engine": "portable" if config.training.engine == "auto" else config.training.engine,
        "daemon": {"pid": os.getpid(), "rss_bytes": resident_bytes()} if is_daemon else None,
    }


def memory_view(state_dir: StateDir, config: Config) -> Json | None:
    """Return what was learned from trainers that ran out of memory; `None` when nothing was."""
    lesson = lesson_in_force(state_dir, config)
    if lesson is None or (not lesson.rounds and lesson.micro_batch is None):
        return None
    return {**msgspec.to_builtins(lesson), "message": lesson.told()}


def why_view(
    state: State,
    mode: Mode,
    reasons: Sequence[Reason],
    overridden: Sequence[Reason],
    *,
    memory: Json | None,
    lost: Review | None,
) -> Json:
    """Return everything that `mmd why --json` prints, but for `daemon`."""
    return {
        "state": state.value,
        "mode": mode.value,
        "reasons": reasons_view(reasons),
        "overridden": reasons_view(overridden),
        "notes": [
            *([] if memory is None else [memory["message"]]),
            *([] if lost is None else [f"Generation {lost.generation} was taken back. {lost.reason}"]),
        ],
    }


def reasons_view(reasons: Sequence[Reason]) -> list[Json]:
    return [
        {
            "code": reason.code.value,
            "message": reason.message,
            "since": round(reason.since, 3),
            "clears_when": reason.clears_when,
        }
        for reason in reasons
    ]


def conditions_view(conditions: Conditions, config: Config) -> Json:
    """Return each condition with its reading and its limits."""
    view: Json = {}
    for name, kind in CONDITIONS.items():
        reading: Reading[Any] = conditions.reading(name)
        stands = standing(name, conditions, config.conditions)
        value = reading.value
        view[name] = {
            "value": round(value, 1) if isinstance(value, float) else value,
            "unit": kind.unit,
            "detail": reading.detail,
            "start": stands.start,
            "stop": stands.stop,
            "dwell_seconds": stands.dwell_seconds,
            "meets_start": stands.meets_start,
            "meets_stop": stands.meets_stop,
            "problems": list(reading.problems),
        }
    return view


def _progress_view(progress: Progress, cost: Cost) -> Json:
    return {
        "number": progress.number,
        "step": progress.step,
        "steps": progress.steps,
        "loss": progress.loss,
        "minutes": round(cost.seconds / 60, 2),
        "watt_hours": _rounded(cost.watt_hours),
    }


def _rounded(watt_hours: float | None) -> float | None:
    return None if watt_hours is None else round(watt_hours, 4)


def model_view(state_dir: StateDir, *, now: float) -> Json | None:
    """Return the model that `current` names, from its card; `None` when there is none that can be read."""
    generation = linked_generation(state_dir.models)
    if generation is None:
        return None
    folder = generation_folder(state_dir.models, generation)
    try:
        card = read_card(folder)
    except StoreDamaged:
        return {"generation": generation, "sha256": None, "phase": "damaged", "review": None}
    review = read_review(folder)
    return {
        "generation": card.generation,
        "sha256": card.sha256,
        "phase": phase_of(folder, card, now),
        "review": None if review is None else msgspec.to_builtins(review),
    }


def taken_back(state_dir: StateDir) -> Review | None:
    """Return by what the newest model lost its place, when it failed its probation."""
    newest = max(generations(state_dir.models), default=0)
    folder = generation_folder(state_dir.models, newest)
    review = read_review(folder)
    return review if review is not None and review.state == "failed" and is_withdrawn(folder) else None


def verdict_view(state_dir: StateDir) -> Json | None:
    """Return the gate's figures of the last round that was judged and closed."""
    for number in reversed(round_numbers(state_dir)):
        folder = round_folder(state_dir, number)
        if read_outcome(folder) is None:
            continue
        try:
            verdict = read_verdict(folder)
        except StoreDamaged:
            continue
        if verdict is not None:
            figures: Json = msgspec.to_builtins(verdict)
            return figures
    return None


def resident_bytes() -> int:
    """Return how much memory this process occupies."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (asked for on every status)
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
