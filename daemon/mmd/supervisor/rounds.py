"""How is a round begun, run and finished? The same few steps for the daemon and for `mmd train`.

Needs neither numpy nor onnxruntime: the trainer is a process of its own.
"""

import logging
import sys
import time

from mmd.artifact.load import read_set
from mmd.config import Config
from mmd.errors import StoreDamaged
from mmd.layout import StateDir, round_folder
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import VERDICT_NAME, RoundOutcome, read_outcome, read_verdict
from mmd.samples.records import SampleRecord
from mmd.samples.store import SampleStore
from mmd.supervisor.memory import with_lesson
from mmd.supervisor.progress import open_round
from mmd.training.plan import (
    RoundPlan,
    make_plan,
    next_round_number,
    read_plan,
    write_plan,
)

log = logging.getLogger(__name__)


def begin_round(state: StateDir, config: Config, store: SampleStore, *, now: float | None = None) -> RoundPlan:
    """Freeze the plan of the next round on disk; the open round's plan when there is one."""
    number = open_round(state)
    if number is not None:
        return read_plan(round_folder(state, number))
    class_number = {name: index for index, name in enumerate(store.form.classes)}
    serving = ModelStore(state).current().card
    artifact_set = read_set(state.artifact_set)
    labels = {record.id: class_number.get(record.label or "", -1) for record in _trainable(store)}
    # An own class counts from the first round that has a sample of it: before, its output says nothing.
    learned = max(len(artifact_set.manifest.classes), len(serving.classes), 1 + max(labels.values(), default=-1))
    plan = make_plan(
        next_round_number(state),
        artifact_set,
        with_lesson(state, config),
        labels=labels,
        classes=store.form.classes[:learned],
        holdout_ids=store.holdout_ids(),
        labelled_holdout=len(store.holdout_ids(labelled=True)),
        seen=frozenset(serving.sample_ids),
        start_generation=serving.generation,
        now=time.time() if now is None else now,
    )
    write_plan(state, plan)
    return plan


def _trainable(store: SampleStore) -> list[SampleRecord]:
    """Return the samples that may be trained on, in the order of their ids: the same store gives the same plan."""
    return sorted((record for record in store.records() if not record.holdout), key=lambda record: record.id)


def trainer_command(state: StateDir, number: int) -> list[str]:
    """Return the command line of the trainer child of round `number`."""
    return [sys.executable, "-m", "mmd.supervisor.trainer", "--state-dir", str(state.root), "--round", str(number)]


def is_judged(state: StateDir, number: int) -> bool:
    """Return whether the trainer has left a verdict, so that only `finish_round` is missing.

    One that cannot be read is removed, and made anew by the trainer.
    """
    folder = round_folder(state, number)
    try:
        return read_verdict(folder) is not None
    except StoreDamaged as error:
        log.warning("%s", error)
        (folder / VERDICT_NAME).unlink(missing_ok=True)
        return False


def finish_round(state: StateDir, number: int, store: SampleStore) -> RoundOutcome:
    """Act on the verdict of round `number` and close it; doing it again changes nothing.

    A promotion swaps the serving model in one rename. The samples of the round are no longer new afterwards.
    """
    folder = round_folder(state, number)
    if read_outcome(folder) is None:
        mark_trained(store, read_plan(folder))
    models = ModelStore(state)
    outcome = models.finish_round(number, stored=set(store.training_ids()))
    if outcome.outcome == "promoted":
        # A sample that was forgotten while the model was being put in place.
        gone = set(models.current().card.sample_ids).difference(store.training_ids())
        if gone:
            store.mark_all_new()
            models.drop_generations_that_saw(gone)
    elif outcome.lost_its_ground:
        store.mark_all_new()
    return outcome


def mark_trained(store: SampleStore, plan: RoundPlan) -> None:
    """Note that the samples of `plan` are no longer new.

    One that was given another label in mid-round stays new: no round has seen it with that one.
    """
    trained = dict(zip(plan.sample_ids, plan.labels, strict=True))
    class_number = {name: index for index, name in enumerate(store.form.classes)}
    records = (record for record in store.records() if record.id in trained)
    seen = [record.id for record in records if trained[record.id] == class_number.get(record.label or "", -1)]
    store.mark_seen(plan.number, seen)
