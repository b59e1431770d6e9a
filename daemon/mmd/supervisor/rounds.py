"""Which round is open, and how is one begun, run and finished? The same few steps for the daemon and for `mmd train`.

Needs neither numpy nor onnxruntime: the trainer is a process of its own.
"""

import sys
import time

from mmd.artifact.load import read_set
from mmd.config import Config
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import RoundOutcome, read_outcome, read_verdict
from mmd.samples.store import SampleStore
from mmd.training.plan import (
    RoundPlan,
    make_plan,
    next_round_number,
    read_plan,
    round_folder,
    round_numbers,
    write_plan,
)


def open_round(state: StateDir) -> int | None:
    """Return the number of the round that was begun and not finished; `None` when there is none."""
    numbers = round_numbers(state)
    if not numbers or read_outcome(round_folder(state, numbers[-1])) is not None:
        return None
    return numbers[-1]


def begin_round(state: StateDir, config: Config, store: SampleStore, *, now: float | None = None) -> RoundPlan:
    """Freeze the plan of the next round on disk; the open round's plan when there is one."""
    number = open_round(state)
    if number is not None:
        return read_plan(round_folder(state, number))
    plan = make_plan(
        next_round_number(state),
        read_set(state.artifact_set),
        config,
        sample_ids=store.training_ids(),
        holdout_ids=store.holdout_ids(),
        any_labelled=store.counts().labelled > 0,
        start_generation=ModelStore(state).current().card.generation,
        now=time.time() if now is None else now,
    )
    write_plan(state, plan)
    return plan


def trainer_command(state: StateDir, number: int, *, foreground: bool = False) -> list[str]:
    """Return the command line of the trainer child of round `number`; it makes itself polite unless `foreground`."""
    command = [sys.executable, "-m", "mmd.supervisor.trainer", "--state-dir", str(state.root), "--round", str(number)]
    return [*command, "--foreground"] if foreground else command


def is_judged(state: StateDir, number: int) -> bool:
    """Return whether the trainer has left a verdict, so that only `finish_round` is missing."""
    return read_verdict(round_folder(state, number)) is not None


def finish_round(state: StateDir, number: int, store: SampleStore) -> RoundOutcome:
    """Act on the verdict of round `number` and close it; doing it again changes nothing.

    A promotion swaps the serving model in one rename. The samples of the round are no longer new afterwards.
    """
    folder = round_folder(state, number)
    store.mark_seen(number, read_plan(folder).sample_ids)
    return ModelStore(state).finish_round(number, stored={*store.training_ids()})
