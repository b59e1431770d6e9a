"""Which samples does each fold model leave out, and what is its plan? Cross-fitting, for the gate.

An owner has few samples, and the quarter that is held out is too small to show that a Mentee got better. So the round
also trains one model a fold, each without the samples of that fold, and the gate asks about each sample the model that
never saw it. The folds are frozen in `plan.json`; a fold is a round of its own, with its own checkpoints. No numpy.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mmd.training.plan import RoundPlan

NO_FOLD = -1
"""Of a sample that every fold model trains on: one without a label, or one that the serving model has seen."""


def assign_folds(labels: Mapping[str, int], *, seen: Collection[str], count: int) -> tuple[int, ...]:
    """Return the fold of every sample, in the order of `labels`; empty when there is nothing to leave out.

    A sample that the serving model was trained on says nothing about which of two models is better, so it has no fold.
    The others are dealt out class by class, so that each fold has about the same share of every class.
    """
    dealt = sorted((label, name) for name, label in labels.items() if label >= 0 and name not in seen)
    if count < 2 or len(dealt) < count or len(labels) <= count:
        return ()
    fold = {name: place % count for place, (_, name) in enumerate(dealt)}
    return tuple(fold.get(name, NO_FOLD) for name in labels)


def fold_steps(folds: Sequence[int], *, epochs: int, own_per_batch: int) -> tuple[int, ...]:
    """Return how many steps each fold model takes: as many epochs as the candidate."""
    kept = [len(folds) - folds.count(number) for number in range(max(folds, default=NO_FOLD) + 1)]
    return tuple(epochs * math.ceil(size / own_per_batch) for size in kept)


def fold_plans(plan: "RoundPlan") -> list["RoundPlan"]:
    """Return the plan of each fold model: that of the round without the fold's samples."""
    return [
        msgspec.structs.replace(
            plan,
            folds=(),
            sample_ids=tuple(plan.sample_ids[place] for place in kept_places(plan, number)),
            labels=tuple(plan.labels[place] for place in kept_places(plan, number)),
            steps=steps,
            warmup_steps=round(plan.warmup_steps * steps / plan.steps),
        )
        for number, steps in enumerate(plan.fold_steps)
    ]


def kept_places(plan: "RoundPlan", fold: int) -> list[int]:
    """Return the places in the plan of the samples that fold model `fold` trains on."""
    return [place for place, number in enumerate(plan.folds) if number != fold]


def left_out_places(plan: "RoundPlan", fold: int) -> list[int]:
    """Return the places in the plan of the samples that fold model `fold` never sees."""
    return [place for place, number in enumerate(plan.folds) if number == fold]
