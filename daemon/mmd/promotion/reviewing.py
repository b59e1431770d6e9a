"""What do the samples that came after a promotion say about it? Inference for the probation, by both models.

A sample counts when it came, with a label, after the model was put in place, and neither model was trained on it.
"""

import time
from collections.abc import Callable, Sequence
from functools import reduce

from mmd.artifact.card import ModelCard, VerifiedModel, generation_folder, read_model
from mmd.artifact.load import read_set
from mmd.artifact.preprocess import Preprocessing
from mmd.artifact.review import Review, phase_of
from mmd.config import GateConfig
from mmd.layout import StateDir
from mmd.promotion.answers import Comparison
from mmd.promotion.chances import wins_and_losses
from mmd.promotion.evaluate import ask
from mmd.promotion.models import ModelStore
from mmd.promotion.probation import Trial, review
from mmd.samples.store import SampleStore

_MOST_JUDGED = 1000
"""The first so many of them; more would only cost time."""
_AT_ONCE = 100
"""Samples in memory: the child is caged, and a sample may be large."""


def review_serving(state: StateDir, settings: GateConfig, *, now: Callable[[], float] = time.time) -> Review | None:
    """Review the serving model and keep what was found; `None` when it is not on probation, or has no model before it.

    Changes nothing about which model serves: that is `ModelStore.settle`.
    """
    models = ModelStore(state, now=now)
    serving = models.current()
    if phase_of(serving.folder, serving.card, now()) != "probation":
        return None
    way_back = models.way_back(serving.card.generation)
    if way_back is None:
        return None
    before = read_model(generation_folder(state.models, way_back))
    found = review(
        _trial(state, before, serving),
        settings,
        generation=serving.card.generation,
        generation_before=way_back,
        now=now(),
    )
    models.note_review(found)
    return found


def _trial(state: StateDir, before: VerifiedModel, serving: VerifiedModel) -> Trial:
    artifact_set = read_set(state.artifact_set)
    classes = len(serving.card.classes or artifact_set.manifest.classes)
    preprocessing = Preprocessing.of(artifact_set)

    def compare(lot: Sequence[str]) -> Comparison:
        inputs, labels = store.load(lot)
        # A class that was named since is for the next model.
        is_judged = labels < classes
        old, new = ask(
            [before.model, serving.model],
            [preprocessing(inputs[is_judged])],
            labels[is_judged],
            manifest=artifact_set.manifest,
            threads=1,
            classes=classes,
        )
        return Comparison(old, new)

    with SampleStore(state.samples_db) as store:
        chosen = fresh_samples(store, serving.card, before.card)[:_MOST_JUDGED]
        starts = range(0, max(1, len(chosen)), _AT_ONCE)
        compared = reduce(Comparison.joined, (compare(chosen[start : start + _AT_ONCE]) for start in starts))
    won, lost = wins_and_losses(compared)
    return Trial(
        judged=compared.total,
        right_before=compared.right_before,
        right_after=compared.right_after,
        won=won,
        lost=lost,
    )


def fresh_samples(store: SampleStore, serving: ModelCard, before: ModelCard) -> list[str]:
    """Return the samples that may judge `serving` against `before`, in the order that they came in."""
    seen = {*serving.sample_ids, *before.sample_ids}
    return [
        record.id
        for record in store.records()
        if record.label is not None and record.ingested > serving.created and record.id not in seen
    ]
