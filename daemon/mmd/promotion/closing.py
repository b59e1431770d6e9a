"""How is a round put away? Its last word, what is removed with it, and what stays for the report."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from mmd.layout import StateDir, round_folder
from mmd.promotion.outcome import CANDIDATE_NAME, DONE_NAME, RoundOutcome, read_outcome, write_outcome

_WORKING_FOLDERS = ("checkpoints", "folds", CANDIDATE_NAME)
_BULKY_FILES = ("plan.json", "losses.jsonl")
_ROUNDS_IN_FULL = 50
"""How many of the newest rounds keep their plan and their losses."""

Unjudged = Literal["failed", "abandoned"]


def close_unjudged(
    state: StateDir, number: int, outcome: Unjudged, reason: str, *, now: float, lost_its_ground: bool = False
) -> RoundOutcome:
    """Close round `number` without a verdict; one that is closed already keeps its outcome."""
    folder = round_folder(state, number)
    closed = read_outcome(folder) or RoundOutcome(
        round=number, outcome=outcome, reason=reason, finished=now, lost_its_ground=lost_its_ground
    )
    write_outcome(folder, closed)
    tidy_round(state, number)
    return closed


def tidy_round(state: StateDir, number: int) -> None:
    """Remove what only an open round needs; its plan, losses and verdict stay for the report."""
    for name in _WORKING_FOLDERS:
        shutil.rmtree(round_folder(state, number) / name, ignore_errors=True)


def thin_old_rounds(state: StateDir) -> None:
    """Leave of old rounds only how they ended, so that years of training do not fill the disk."""
    for folder in sorted(_closed_rounds(state))[:-_ROUNDS_IN_FULL]:
        for name in _BULKY_FILES:
            (folder / name).unlink(missing_ok=True)


def forget_in_rounds(state: StateDir, forgotten: set[str], *, now: float) -> None:
    """Remove every plan that names one of these samples; a round that is open is closed, and its checkpoints go."""
    for plan_file in state.rounds.glob("[0-9]*/plan.json"):
        try:
            plan = msgspec.json.decode(plan_file.read_bytes(), type=_PlanSamples)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            continue  # removed meanwhile; or damaged, and the trainer refuses it by itself
        if forgotten.intersection(plan.sample_ids):
            reason = "A sample that it was trained on has been forgotten."
            close_unjudged(state, plan.number, "abandoned", reason, now=now, lost_its_ground=True)
            # The names of samples are hashes of what is in them: who has the content could tell that it was here.
            plan_file.unlink(missing_ok=True)
    for leftover in state.rounds.glob("[0-9]*/.plan.json.*.tmp"):  # of a process that was killed as it wrote one
        leftover.unlink(missing_ok=True)


def promoted_generations(state: StateDir) -> Iterator[int]:
    """Yield every number that a promoted model ever had, those that are gone included."""
    for folder in _closed_rounds(state):
        outcome = read_outcome(folder)
        if outcome is not None and outcome.generation is not None:
            yield outcome.generation


def _closed_rounds(state: StateDir) -> Iterator[Path]:
    for done in state.rounds.glob(f"[0-9]*/{DONE_NAME}"):
        yield done.parent


class _PlanSamples(msgspec.Struct):
    number: int
    sample_ids: tuple[str, ...]
