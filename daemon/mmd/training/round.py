"""How does a round get from its plan to its last step, through kills, damaged checkpoints and losses that explode?

Everything that a step depends on is in the plan, the samples and the checkpoint; so a round that is killed at any
instant and resumed ends with the same bits as one left alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import normalise
from mmd.artifact.manifest import DropoutSpec, InputSpec
from mmd.errors import ArtifactRefused, StoreDamaged
from mmd.training.batches import BatchOrder
from mmd.training.checkpoint import Checkpoint, CheckpointFolder
from mmd.training.dropout import dropout_masks
from mmd.training.engine import Batch, Engine, TrainingState
from mmd.training.losses import LossLog, loss_line
from mmd.training.mentor_outputs import MentorOutputs
from mmd.training.plan import RoundPlan, fail_without_numbers
from mmd.training.rows import Indices, RoundInputs
from mmd.training.schedule import learning_rate_at, weights_at

_MOST_RECOVERIES = 3
_RECOVERY_FACTOR = 0.1
_RECOVERIES = "recoveries"


class RoundEnd(Enum):
    FINISHED = "finished"
    STOPPED = "stopped"
    """Asked to leave: a checkpoint is on disk and the round stays open."""


@dataclass(frozen=True)
class RoundData:
    """What a round trains on: the plan's samples, with the replay samples after them."""

    inputs: RoundInputs
    labels: NDArray[np.int64]
    """[own + replay]"""
    own: int
    mentor: MentorOutputs
    input_spec: InputSpec
    dropout: tuple[DropoutSpec, ...] = ()
    places: Indices | None = None
    """Where the samples lie; `None`: all of them, as they are. See `only`."""

    @property
    def size(self) -> int:
        return len(self.labels) if self.places is None else len(self.places)

    def only(self, kept: Sequence[int]) -> "RoundData":
        """Return the same without the owner's samples that are not `kept`; nothing is copied."""
        places = np.concatenate([np.array(kept, np.int64), np.arange(self.own, len(self.labels))])
        return replace(self, own=len(kept), places=places)

    def batch(self, samples: Indices, views: Indices) -> Batch:
        if self.places is not None:
            samples = self.places[samples]
        return Batch(
            inputs=normalise(self.inputs.rows(samples, views), self.input_spec),
            labels=self.labels[samples],
            mentor=self.mentor.rows(samples, views),
        )


@dataclass(frozen=True)
class Listener:
    """Whom the round tells what happens, and whom it asks whether to go on."""

    on_step: Callable[[int, float], None]
    """Called with the number of finished steps and the loss of the last one."""
    on_notice: Callable[[str], None]
    """Called with a sentence for the owner."""
    should_stop: Callable[[], bool]
    """Asked before every step."""


def run_round(
    plan: RoundPlan, folder: Path, engine: Engine, data: RoundData, start: TrainingState, listener: Listener
) -> RoundEnd:
    """Run the round of `plan` in `folder` from its newest checkpoint to its end, or until it is asked to stop.

    Raises `TrainingFailed` when the losses stay not finite however small the steps are made.
    """
    with LossLog(folder) as losses:
        return _Run(plan, CheckpointFolder(folder / "checkpoints", every=plan.checkpoint_every), losses).go(
            engine, data, start, listener
        )


class _Run:
    """One attempt at a round, from wherever it can be resumed."""

    def __init__(self, plan: RoundPlan, checkpoints: CheckpointFolder, losses: LossLog) -> None:
        self._plan = plan
        self._checkpoints = checkpoints
        self._losses = losses
        self._step = 0
        self._recoveries = 0

    def go(self, engine: Engine, data: RoundData, start: TrainingState, listener: Listener) -> RoundEnd:
        plan = self._plan
        checkpoint, complaints = self._checkpoints.newest()
        for complaint in complaints:
            listener.on_notice(complaint)
        try:
            self._resume(engine, checkpoint or Checkpoint(start))
        except ArtifactRefused as error:
            if checkpoint is None:
                raise
            raise StoreDamaged(
                f"The checkpoint of round {plan.number} at step {checkpoint.state.step} is of another model: {error} "
                f"Remove the folder checkpoints in rounds/{plan.number:04d}, and the round begins again."
            ) from error
        self._recoveries = int(checkpoint.notes.get(_RECOVERIES, "0")) if checkpoint else 0
        order = BatchOrder(
            seed=plan.seed,
            own=data.own,
            replay=data.size - data.own,
            batch_size=plan.batch_size,
            replay_per_batch=plan.replay_per_batch,
            views=plan.views,
        )
        while self._step < plan.steps:
            if listener.should_stop():
                self._save(engine)
                return RoundEnd.STOPPED
            batch = data.batch(order.indices(self._step), order.views_of(self._step))
            masks = dropout_masks(data.dropout, plan.seed, self._step, len(batch.inputs))
            if self._take_step(engine, replace(batch, masks=masks), listener) and (
                not self._is_regular() or self._save(engine)
            ):
                continue
            self._recover(engine, start, listener)
        return RoundEnd.FINISHED

    def _is_regular(self) -> bool:
        return self._step % self._plan.checkpoint_every == 0 or self._step == self._plan.steps

    def _take_step(self, engine: Engine, batch: Batch, listener: Listener) -> bool:
        """Take one step; return whether its loss was finite."""
        weights = weights_at(self._plan, self._step)
        rate = learning_rate_at(self._plan, self._step) * _RECOVERY_FACTOR**self._recoveries
        losses = engine.step(batch, weights, rate)
        if not math.isfinite(losses.total):
            return False
        self._step += 1
        self._losses.append(loss_line(self._step, losses, weights, rate))
        listener.on_step(self._step, losses.total)
        return True

    def _save(self, engine: Engine) -> bool:
        """Make a checkpoint; return False, leaving the older ones, when a parameter is not finite."""
        state = engine.state()
        if not all(np.isfinite(value).all() for value in state.parameters.values()):
            return False
        self._losses.sync()
        self._checkpoints.save(Checkpoint(state, {_RECOVERIES: str(self._recoveries)}))
        return True

    def _recover(self, engine: Engine, start: TrainingState, listener: Listener) -> None:
        """Go back to the last regular checkpoint with a tenth of the learning rate.

        Only regular ones count, so that a round which was asked to leave in between goes the same way.
        """
        bad = self._step
        if self._recoveries == _MOST_RECOVERIES:
            raise fail_without_numbers(self._plan, self._recoveries)
        checkpoint, _ = self._checkpoints.newest(regular_only=True)
        self._resume(engine, checkpoint or Checkpoint(start))
        self._checkpoints.remove_after(self._step)
        self._recoveries += 1
        listener.on_notice(
            f"The loss or a parameter was not finite at step {bad}; back at step {self._step} "
            f"with a tenth of the learning rate ({self._recoveries} of {_MOST_RECOVERIES} tries)."
        )

    def _resume(self, engine: Engine, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint.state)
        self._step = checkpoint.state.step
        self._losses.truncate(self._step)
