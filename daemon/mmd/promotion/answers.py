"""What did two models say about the same labelled samples? Counts, losses, certainty; no file and no network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import Confusion

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What one model said about some labelled samples."""

    labels: NDArray[np.int64]
    """[n]"""
    log_probabilities: Doubles
    """[views, n, classes]; view 0 is the sample itself."""

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Of each sample itself."""
        predicted: NDArray[np.bool_] = self.log_probabilities[0].argmax(axis=1) == self.labels
        return predicted

    @property
    def log_losses(self) -> Doubles:
        """Of each sample itself, in nats."""
        losses: Doubles = -self.log_probabilities[0, np.arange(len(self.labels)), self.labels]
        return losses

    @property
    def certainty(self) -> Doubles:
        """The probability given to each sample's true class, mean over its views."""
        of_truth = np.exp(self.log_probabilities[:, np.arange(len(self.labels)), self.labels])
        certainty: Doubles = of_truth.mean(axis=0)
        return certainty

    def joined(self, other: "Judged") -> "Judged":
        """Return what was said about both lots of samples."""
        return Judged(
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.log_probabilities, other.log_probabilities], axis=1),
        )

    def confusion(self) -> Confusion:
        """Return the counts [true class][predicted class] of the samples themselves."""
        classes = self.log_probabilities.shape[2]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.log_probabilities[0].argmax(axis=1)), 1)
        return tuple(tuple(map(int, row)) for row in table)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples."""

    before: Judged
    after: Judged

    @property
    def total(self) -> int:
        return len(self.before.labels)

    @property
    def right_before(self) -> int:
        return int(self.before.is_right.sum())

    @property
    def right_after(self) -> int:
        return int(self.after.is_right.sum())

    def joined(self, other: "Comparison") -> "Comparison":
        """Return both comparisons as one: each sample keeps the answers that it got; as many views in both."""
        return Comparison(self.before.joined(other.before), self.after.joined(other.after))


def log_softmax(logits: NDArray[np.floating]) -> Doubles:
    """Return log probabilities [n, classes] in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True).astype(np.float64)
    normalised: Doubles = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
