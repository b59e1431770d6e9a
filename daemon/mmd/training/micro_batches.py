"""How does a board with little memory train a large batch? A part at a time, with one step at the end.

The losses are means over the batch, so their coefficients are weighted for each part: by its share of the labelled
samples, by its share of all samples, and for a root of a mean, whose slope depends on the whole batch, by what a first
look at all parts tells. The step is that of the whole batch, but for rounding; only the hint `similarity`,
which compares the samples of a batch with each other, compares those of each part. Equal states and batches end in
equal bits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmd.artifact.manifest import Manifest
from mmd.training.engine import UNLABELLED, Batch, Engine, Floats, LossWeights, StepLosses, TrainingState

_ROOT = "rmse"
"""The one hint loss that is not a mean over the samples, but the root of one."""


class MicroBatches:
    """An engine that takes the steps of another one in parts of at most `size` samples."""

    def __init__(self, engine: Engine, manifest: Manifest, size: int) -> None:
        self._engine = engine
        self._size = size
        self._is_root = tuple(probe.loss == _ROOT for probe in manifest.probes)
        self._sums = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in manifest.parameters}

    @property
    def name(self) -> str:
        return self._engine.name

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        """Take one optimizer step and return the losses before it."""
        if len(batch.inputs) <= self._size:
            return self._engine.step(batch, weights, learning_rate)
        losses = self._collect(batch, weights)
        self._engine.apply(self._sums, learning_rate)
        return losses

    def gradients(self, batch: Batch, weights: LossWeights) -> tuple[StepLosses, dict[str, Floats]]:
        """Return the losses and the gradient of the total for every parameter, changing nothing."""
        losses = self._collect(batch, weights)
        return losses, {name: value.copy() for name, value in self._sums.items()}

    def losses(self, batch: Batch, weights: LossWeights) -> StepLosses:
        """Return the losses, changing nothing."""
        parts = self._parts(batch)
        return self._joined(batch, parts, weights, [self._engine.losses(part, weights) for part in parts])

    def apply(self, gradients: Mapping[str, Floats], learning_rate: float) -> None:
        """Take one optimizer step along gradients from elsewhere."""
        self._engine.apply(gradients, learning_rate)

    def state(self) -> TrainingState:
        """Return a copy of the state."""
        return self._engine.state()

    def load(self, state: TrainingState) -> None:
        """Replace the state. Raises `ArtifactRefused` when a name or shape is not this set's."""
        self._engine.load(state)

    def _parts(self, batch: Batch) -> list[Batch]:
        return [_rows(batch, slice(at, at + self._size)) for at in range(0, len(batch.inputs), self._size)]

    def _collect(self, batch: Batch, weights: LossWeights) -> StepLosses:
        """Sum the gradients of all parts, each as strong as it is in the whole batch; return the batch's losses."""
        parts = self._parts(batch)
        for value in self._sums.values():
            value.fill(0)
        found = []
        for part, strength in zip(parts, self._strengths(batch, parts, weights), strict=True):
            losses, gradients = self._engine.gradients(part, strength)
            found.append(losses)
            for name, value in self._sums.items():
                value += gradients[name]
        return self._joined(batch, parts, weights, found)

    def _strengths(self, batch: Batch, parts: Sequence[Batch], weights: LossWeights) -> list[LossWeights]:
        """Return the coefficients of each part."""
        needs_look = any(root and beta for root, beta in zip(self._is_root, weights.betas, strict=False))
        looked = [self._engine.losses(part, weights) for part in parts] if needs_look else []
        whole = self._joined(batch, parts, weights, looked).hints if looked else ()
        labelled = _labelled(batch)
        strengths = []
        for index, part in enumerate(parts):
            share = len(part.inputs) / len(batch.inputs)
            betas = [beta * share for beta in weights.betas]
            for hint, is_root in enumerate(self._is_root):
                if is_root and looked:
                    # The slope of sqrt(m) is dm / (2 sqrt(m)); wanted is dm / (2 sqrt(m of the whole batch)).
                    betas[hint] *= looked[index].hints[hint] / whole[hint]
            alpha = weights.alpha * _labelled(part) / labelled if labelled else weights.alpha
            strengths.append(replace(weights, alpha=alpha, betas=tuple(betas), gamma=weights.gamma * share))
        return strengths

    def _joined(
        self, batch: Batch, parts: Sequence[Batch], weights: LossWeights, found: Sequence[StepLosses]
    ) -> StepLosses:
        """Return the losses of the whole batch from those of its parts."""
        shares = [len(part.inputs) / len(batch.inputs) for part in parts]
        counts = [_labelled(part) for part in parts]
        label = sum(n * each.label for n, each in zip(counts, found, strict=True)) / max(1, sum(counts))
        soft = sum(share * each.soft for share, each in zip(shares, found, strict=True))
        hints = tuple(
            _mean([each.hints[index] for each in found], shares, is_root=is_root)
            for index, is_root in enumerate(self._is_root)
        )
        total = weights.alpha * label + weights.gamma * soft
        total += sum(beta * hint for beta, hint in zip(weights.betas, hints, strict=False))
        return StepLosses(total, label, soft, hints)


def _rows(batch: Batch, rows: slice) -> Batch:
    mentor, masks = (
        None if group is None else {name: value[rows] for name, value in group.items()}
        for group in (batch.mentor, batch.masks)
    )
    return Batch(batch.inputs[rows], batch.labels[rows], mentor, masks)


def _labelled(batch: Batch) -> int:
    return int(np.count_nonzero(batch.labels != UNLABELLED))


def _mean(values: Sequence[float], shares: Sequence[float], *, is_root: bool) -> float:
    power = 2 if is_root else 1
    mean = sum(share * value**power for share, value in zip(shares, values, strict=True))
    return math.sqrt(mean) if is_root else mean
