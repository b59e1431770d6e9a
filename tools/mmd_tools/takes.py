"""Who gave which sample, and how are they split when one of the people is to be a stranger?"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mmd.errors import UsageError

SPLITS = ("train", "validation", "anchor", "strangers")
ANCHOR_BELOW, VALIDATION_UP_TO = Fraction(2, 10), Fraction(3, 10)
"""How far along everybody's takes of every class, counted from 0, the anchor's part and that for validation end; the
later takes train. Of 50 takes these are 10 (0 to 9), 6 (10 to 15) and 34."""


@dataclass(frozen=True)
class Takes:
    """Samples as a board would store them, ordered by person, take and class."""

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]
    people: NDArray[np.str_]
    takes: NDArray[np.int64]
    """From 0, by person and class."""

    @classmethod
    def ordered(cls, inputs: NDArray[np.generic], labels: NDArray[np.int64], people: NDArray[np.str_]) -> "Takes":
        """Number and order samples whose earlier takes come first."""
        takes = np.zeros(len(labels), np.int64)
        for person, label in {*zip(people.tolist(), labels.tolist(), strict=True)}:
            chosen = (people == person) & (labels == label)
            takes[chosen] = np.arange(chosen.sum())
        order = np.lexsort((labels, takes, people))
        return cls(inputs[order], labels[order], people[order], takes[order])

    @property
    def names(self) -> list[str]:
        names: list[str] = np.unique(self.people).tolist()
        return names

    def counts(self) -> NDArray[np.int64]:
        """Return how many takes of its class each sample's person gave."""
        counts = np.zeros(len(self.labels), np.int64)
        for person, label in {*zip(self.people.tolist(), self.labels.tolist(), strict=True)}:
            chosen = (self.people == person) & (self.labels == label)
            counts[chosen] = chosen.sum()
        return counts


def split_by_person(samples: Takes, stranger: str) -> NDArray[np.uint8]:
    """Return the index in `SPLITS` of every sample: all of the stranger's are a stranger's."""
    if stranger not in samples.names:
        raise UsageError(f"There is no `{stranger}`; there are {', '.join(samples.names)}.")
    if len(samples.names) < 2:
        raise UsageError(f"There is nobody besides `{stranger}`; somebody must be left to train on.")
    takes, counts = samples.takes, samples.counts()
    split = np.full(len(samples.labels), SPLITS.index("train"), np.uint8)
    # In whole numbers: 15 of 50 is three tenths, whatever 0.1 + 0.2 is.
    end = VALIDATION_UP_TO
    split[takes * end.denominator <= counts * end.numerator] = SPLITS.index("validation")
    end = ANCHOR_BELOW
    split[takes * end.denominator < counts * end.numerator] = SPLITS.index("anchor")
    split[samples.people == stranger] = SPLITS.index("strangers")
    return split


def anchor_order(samples: Takes, split: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the places of the anchor set: at the even ones those for replay, at the odd ones those for the gate.

    The gate's are the odd takes of the anchor's part and those that chose the best epoch: no network was trained on
    them, and the more there are the finer the gate sees. For replay are the even takes and as many trained ones.
    """
    parts = {name: np.flatnonzero(split == number) for number, name in enumerate(SPLITS)}
    is_odd = samples.takes[parts["anchor"]] % 2 == 1
    trained = parts["train"][np.argsort(samples.takes[parts["train"]], kind="stable")]
    gate = np.concatenate([parts["anchor"][is_odd], parts["validation"]])
    replay = np.concatenate([parts["anchor"][~is_odd], trained])
    size = min(len(gate), len(replay))
    return np.stack([replay[:size], gate[:size]], axis=1).ravel()
