"""Which rounds do the tests run without an artifact set? Softmax regression by hand, behind the engine protocol."""

import msgspec
import numpy as np

from mmd.artifact.manifest import InputSpec, Schedule
from mmd.config import GateConfig
from mmd.training.engine import UNLABELLED, Batch, Floats, LossWeights, StepLosses, TrainingState
from mmd.training.mentor_outputs import MentorOutputs
from mmd.training.plan import RoundPlan
from mmd.training.round import RoundData
from mmd.training.rows import ArrayInputs, Indices

FEATURES, CLASSES = 6, 3
SPEC = InputSpec(name="x", kind="tensor", shape=(FEATURES,))


def round_plan(**changes: object) -> RoundPlan:
    """Return a plan of 20 steps with a checkpoint every 5."""
    plan = RoundPlan(
        number=1,
        created=0.0,
        artifact_sha256="set",
        engine="portable",
        threads=1,
        seed=7,
        preset="obedient",
        schedule=Schedule(alpha=((0.0, 0.5), (1.0, 1.0)), beta=((0.0, 0.1),), gamma=((0.0, 1.0), (0.5, 0.0))),
        temperature=4.0,
        hint_weights=(1.0,),
        epochs=4,
        steps=20,
        batch_size=8,
        replay_per_batch=2,
        learning_rate=0.1,
        warmup_steps=2,
        checkpoint_every=5,
        start_generation=0,
        sample_ids=tuple(f"{number:02d}" for number in range(30)),
        labels=tuple(number % CLASSES for number in range(30)),
        gate=GateConfig(),
    )
    return msgspec.structs.replace(plan, **changes)


class NoMentor:
    """Has nothing to say."""

    def rows(self, samples: Indices, views: Indices) -> dict[str, Floats]:
        return {}


def round_data(*, own: int = 30, replay: int = 10, mentor: MentorOutputs | None = None) -> RoundData:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, own + replay)
    labels[:3] = UNLABELLED
    inputs = (rng.standard_normal((own + replay, FEATURES)) + labels[:, None]).astype(np.float32)
    return RoundData(ArrayInputs(inputs), labels, own, mentor or NoMentor(), SPEC)


class HandEngine:
    """Softmax regression with momentum, by hand; breaks where a test tells it to."""

    def __init__(self) -> None:
        self.is_exploding_at: dict[int, int] = {}
        """Step -> how many times its loss is not finite from now on."""
        self.poisoned_at: set[int] = set()
        """Steps after which a parameter is not finite, once each."""
        self.rates: list[tuple[int, float]] = []
        """Every step taken and its learning rate."""
        self._state = hand_start()

    @property
    def name(self) -> str:
        return "by_hand"

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        step = self._state.step
        self.rates.append((step, learning_rate))
        losses, gradients = self.gradients(batch, weights)
        if self.is_exploding_at.get(step, 0):
            self.is_exploding_at[step] -= 1
            losses = StepLosses(float("nan"), 0.0, 0.0, ())
        moment = 0.9 * self._state.first_moments["w"] + gradients["w"]
        parameter = self._state.parameters["w"] - np.float32(learning_rate) * moment
        if step in self.poisoned_at:
            self.poisoned_at.remove(step)
            parameter = parameter * np.float32("nan")
        self._state = TrainingState(step + 1, {"w": parameter}, {"w": moment}, self._state.second_moments)
        return losses

    def gradients(self, batch: Batch, weights: LossWeights) -> tuple[StepLosses, dict[str, Floats]]:
        logits = batch.inputs @ self._state.parameters["w"]
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        known = batch.labels != UNLABELLED
        targets = np.eye(CLASSES, dtype=np.float32)[np.where(known, batch.labels, 0)]
        errors = (probabilities - targets) * known[:, None] * np.float32(weights.alpha)
        loss = float(-np.log(probabilities[known, batch.labels[known]]).mean()) if known.any() else 0.0
        gradient = (batch.inputs.T @ errors / max(1, known.sum())).astype(np.float32)
        return StepLosses(weights.alpha * loss, loss, 0.0, (0.0,)), {"w": gradient}

    def state(self) -> TrainingState:
        return self._state

    def load(self, state: TrainingState) -> None:
        self._state = state


def hand_start() -> TrainingState:
    zeros = np.zeros((FEATURES, CLASSES), np.float32)
    return TrainingState(0, {"w": zeros}, {"w": zeros.copy()}, {"w": zeros.copy()})
