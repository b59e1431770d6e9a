"""Which round is open, how far is it, and how did those before it end? Read from their folders, without numpy."""

import math
from typing import Any

import msgspec

from mmd.conditions import Instant
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.promotion.outcome import RoundOutcome, read_outcome


class Progress(msgspec.Struct, frozen=True):
    """How far the open round is."""

    number: int
    step: int
    steps: int
    loss: float | None = None


def open_round(state_dir: StateDir) -> int | None:
    """Return the number of the round that was begun and not finished; `None` when there is none."""
    numbers = round_numbers(state_dir)
    if not numbers or read_outcome(round_folder(state_dir, numbers[-1])) is not None:
        return None
    return numbers[-1]


def has_trained(state_dir: StateDir) -> bool:
    """Return whether any round was trained to its end."""
    outcomes = (read_outcome(round_folder(state_dir, number)) for number in round_numbers(state_dir))
    return any(outcome is not None and outcome.outcome != "abandoned" for outcome in outcomes)


def progress_on_disk(state_dir: StateDir, number: int) -> Progress:
    """Return how far the round had come when it last wrote. Raises `StoreDamaged` when its plan cannot be read."""
    # Not above: without an open round nobody needs to know what a plan is, and `mmd status` is to be quick.
    from mmd.training.plan import read_plan, read_progress

    folder = round_folder(state_dir, number)
    plan = read_plan(folder)
    earlier = read_progress(folder, plan)
    return Progress(number, earlier.step, plan.steps_in_all, earlier.loss)


def after_step(progress: Progress, event: dict[str, Any]) -> Progress:
    """Return the progress after a `step` event; one that makes no sense changes nothing."""
    try:
        loss = float(event["loss"])
        step, steps = int(event["step"]), int(event["steps"])
    except (KeyError, TypeError, ValueError):
        import logging  # only the daemon hears trainers

        logging.getLogger(__name__).warning("the trainer said a step that makes no sense: %s", str(event)[:200])
        return progress
    # JSON has no word for a loss that is not finite.
    return Progress(progress.number, step, steps, loss if math.isfinite(loss) else None)


def last_end(state_dir: StateDir, now: Instant) -> tuple[float | None, int]:
    """Return the monotonic time when the last round ended, and how many of the last rounds failed in a row."""
    outcomes = _outcomes(state_dir)
    if not outcomes:
        return None, 0
    # A clock that jumped back would make the last round end in the future.
    ended = now.monotonic - max(0.0, now.wall - outcomes[-1].finished)
    failed = 0
    for outcome in reversed(outcomes):
        if not is_failure(outcome):
            break
        failed += 1
    return ended, failed


def is_failure(outcome: RoundOutcome) -> bool:
    return outcome.outcome in ("failed", "abandoned") and not outcome.lost_its_ground


def _outcomes(state_dir: StateDir) -> list[RoundOutcome]:
    read = (read_outcome(round_folder(state_dir, number)) for number in round_numbers(state_dir))
    return [outcome for outcome in read if outcome is not None]
