"""What can every training engine do? One protocol, so that the round never knows which engine runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

UNLABELLED = -1
"""The label of a sample that has none; it adds nothing to the label loss."""


@dataclass(frozen=True)
class Batch:
    """One batch for one step."""

    inputs: Floats
    """[batch, *shape], normalised."""
    labels: NDArray[np.int64]
    """[batch]; `UNLABELLED` where the owner gave none."""
    mentor: Mapping[str, Floats] | None = None
    """Cached variant only: the Mentor's outputs by their names in `mentor.onnx`, each [batch, ...]."""
    masks: Mapping[str, Floats] | None = None
    """Dropout's, by their names in the manifest, each [batch, ...]; without them nothing is dropped."""


@dataclass(frozen=True)
class LossWeights:
    """The coefficients of the loss at one step: a(t), b_l(t), g(t) and T."""

    alpha: float
    betas: tuple[float, ...]
    gamma: float
    temperature: float


@dataclass(frozen=True)
class StepLosses:
    """The loss of one step and its terms before their coefficients."""

    total: float
    label: float
    soft: float
    hints: tuple[float, ...]


@dataclass(frozen=True)
class TrainingState:
    """Everything that a step changes. Two equal states followed by equal batches end in equal bits."""

    step: int
    """Optimizer steps taken; the bias correction of Adam counts them."""
    parameters: Mapping[str, Floats]
    first_moments: Mapping[str, Floats]
    second_moments: Mapping[str, Floats]


class Engine(Protocol):
    """Runs training steps of one artifact set."""

    @property
    def name(self) -> str: ...

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        """Take one optimizer step and return the losses before it."""
        ...

    def gradients(self, batch: Batch, weights: LossWeights) -> tuple[StepLosses, dict[str, Floats]]:
        """Return the losses and the gradient of the total for every parameter, changing nothing."""
        ...

    def losses(self, batch: Batch, weights: LossWeights) -> StepLosses:
        """Return the losses, changing nothing."""
        ...

    def apply(self, gradients: Mapping[str, Floats], learning_rate: float) -> None:
        """Take one optimizer step along gradients from elsewhere."""
        ...

    def state(self) -> TrainingState:
        """Return a copy of the state."""
        ...

    def load(self, state: TrainingState) -> None:
        """Replace the state. Raises `ArtifactRefused` when a name or shape is not this set's."""
        ...
