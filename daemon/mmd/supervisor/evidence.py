"""What do the owner's samples and the anchor set say about a round's candidates? Asks the networks, for the gate."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import VerifiedModel, makeup
from mmd.promotion.answers import Comparison
from mmd.promotion.evaluate import lots
from mmd.promotion.gate import Contender, Evidence
from mmd.supervisor.candidate import Candidate, PreparedRound, precision
from mmd.training.folds import left_out_places


@dataclass(frozen=True)
class Lot:
    """Some labelled held-out samples, as stored."""

    ids: Sequence[str]
    stored: NDArray[np.generic]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Holdout:
    """The labelled held-out samples: there may be more than fit into memory."""

    ids: Sequence[str]
    read: Callable[[Sequence[str]], Lot]
    """Those of the named ones that are still there."""


def contenders(
    prepared: PreparedRound, serving: VerifiedModel, candidates: Sequence[Candidate], holdout: Holdout
) -> list[Contender]:
    """Ask each candidate, or who answers for it, about every sample that may judge, and about the anchor set."""
    plan, models = prepared.plan, [candidate.model for candidate in candidates]
    # A sample is one piece of evidence in however many views it is seen, and a less noisy one in several; as many
    # samples as judge alone are enough as they are.
    views = range(plan.views if len(holdout.ids) < plan.gate.enough_holdout else 1)
    held_out = _held_out(prepared, serving, models, holdout, views)
    out_of_fold = _out_of_fold(prepared, serving, views)
    anchors = prepared.compare_on_anchor(serving.model, models)
    return [
        Contender(
            Evidence(held, folded),
            anchor,
            makeup(candidate.blend, candidate.remembers, precision(plan)),
            is_memory_alone=candidate.blend == 0 and not plan.int8,
        )
        for candidate, held, folded, anchor in zip(candidates, held_out, out_of_fold, anchors, strict=True)
    ]


def _held_out(
    prepared: PreparedRound, serving: VerifiedModel, models: Sequence[bytes], holdout: Holdout, views: range
) -> list[Comparison]:
    """Compare on the held-out samples, a lot at a time."""

    def compare(part: slice) -> list[Comparison]:
        lot = holdout.read(holdout.ids[part])
        in_views = (prepared.unplanned_samples(lot.ids, lot.stored, view) for view in views)
        return prepared.compare(serving.model, models, in_views, lot.labels)

    return _joined(map(compare, lots(len(holdout.ids), prepared.artifact_set.manifest.input)))


def _out_of_fold(prepared: PreparedRound, serving: VerifiedModel, views: range) -> list[Comparison] | list[None]:
    """Compare on every sample of a fold that the serving model has not seen either, one comparison a candidate.

    What answers for a sample is made as the candidate is, without the sample's fold. `None` without fold models.
    """
    plan, seen = prepared.plan, frozenset(serving.card.sample_ids)

    def compared() -> Iterator[list[Comparison]]:
        for number in range(len(plan.fold_steps)):
            left_out, learned = left_out_places(plan, number), prepared.fold_parameters(number)
            places = [place for place in left_out if plan.sample_ids[place] not in seen]
            answering = [Candidate.of(prepared, learned, blend, unseen=left_out).model for blend in plan.blends]
            for part in lots(len(places), prepared.artifact_set.manifest.input):
                in_views = (prepared.samples(places[part], view) for view in views)
                yield prepared.compare(serving.model, answering, in_views, prepared.data.labels[places[part]])

    return _joined(compared()) if plan.fold_steps else [None] * len(plan.blends)


def _joined(parts: Iterable[list[Comparison]]) -> list[Comparison]:
    """Return, for each candidate, what was compared in all parts."""
    return [reduce(Comparison.joined, each) for each in zip(*parts, strict=True)]
