"""Who are the owners of the bench, which digits do they give to the product, and which does it never see?

An owner is a student writer of MNIST's training digits, from whom neither Mentor nor shipped Mentee has seen anything.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmd.errors import UsageError
from mmd_tools.prepare_digits import Digits, read_digits
from mmd_tools.train_data import Part

Group = Literal["report", "development"]

AT_LEAST = 60
"""Digits of a writer; with the largest size given away there is always something left to test on."""
SIZES = (5, 10, 20, 50)
DEVELOPMENT_EVERY = 4
"""Every fourth writer is for choosing defaults; the others are for the figures that are reported."""
_OF_OWNERS, _OF_SAMPLES = 0, 1


@dataclass(frozen=True)
class Owner:
    """One person's samples, in no order yet."""

    name: str
    samples: Part
    by_takes: bool = False
    """Whether every class is given once before any is given again."""


@dataclass(frozen=True)
class OwnerSplit:
    """What the product gets, and what it is scored on."""

    own: Part
    """In the order in which they are given: the first n for a size of n, so that sizes are nested."""
    test: Part
    """The same for every size."""


def read_owners(data: Path) -> list[Owner]:
    """Return the student writers with enough digits, by number, from the files of `mmd-tools prepare digits`."""
    digits = read_digits(data)
    writers, counts = np.unique(digits.writers[digits.is_student], return_counts=True)
    return [_owner(digits, int(writer)) for writer in writers[counts >= AT_LEAST]]


def _owner(digits: Digits, writer: int) -> Owner:
    chosen = digits.is_student & (digits.writers == writer)
    return Owner(f"writer {writer}", Part(digits.inputs[chosen], digits.labels[chosen]))


def read_pictures(folder: Path, name: str) -> Owner:
    """Return the one owner whose PNG files lie in a folder a class, such as the one that ships with the set."""
    from PIL import Image

    paths = sorted(folder.glob("*/*.png"))
    if not paths:
        raise UsageError(f"There is no PNG file in a folder a class in {folder}; give the bench its --data.")
    inputs = np.stack([np.asarray(Image.open(path).convert("L"), np.uint8)[None] for path in paths])
    return Owner(name, Part(inputs, np.array([int(path.parent.name) for path in paths], np.int64)))


def choose_owners(owners: Sequence[Owner], count: int, group: Group) -> list[Owner]:
    """Return `count` of the owners of `group`, always the same ones for the same owners."""
    members = [
        owner
        for place, owner in enumerate(owners)
        if (place % DEVELOPMENT_EVERY == DEVELOPMENT_EVERY - 1) == (group == "development")
    ]
    if count > len(members):
        raise UsageError(f"There are {len(members)} owners in the {group} group, not {count}; ask for fewer.")
    order = np.random.default_rng([0, _OF_OWNERS]).permutation(len(members))
    return [members[place] for place in order[:count]]


def split_owner(owner: Owner, seed: int, *, largest: int) -> OwnerSplit:
    """Draw `largest` samples to give away; all the others are for the test."""
    order: NDArray[np.int64] = np.random.default_rng([seed, _OF_SAMPLES]).permutation(len(owner.samples.labels))
    if owner.by_takes:
        order = _take_by_take(order, owner.samples.labels)
    if len(order) <= largest:
        raise UsageError(f"{owner.name} has {len(order)} samples; more than {largest} are needed.")

    def taken(places: NDArray[np.int64]) -> Part:
        return Part(owner.samples.inputs[places], owner.samples.labels[places])

    return OwnerSplit(taken(order[:largest]), taken(order[largest:]))


def _take_by_take(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `order` with the first of every class first, then the second of every class, and so on."""
    seen: Counter[int] = Counter()
    takes = []
    for label in labels[order].tolist():
        takes.append(seen[label])
        seen[label] += 1
    return order[np.argsort(takes, kind="stable")]
