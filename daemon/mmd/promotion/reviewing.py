"""What do the samples that came after a promotion say about it? Inference for the probation, by both models.

A sample counts when it came, with a label, after the model was put in place, and neither model was trained on it.
"""

import time
from collections.abc import Callable

from mmd.artifact.card import ModelCard, VerifiedModel, generation_folder, read_model
from mmd.artifact.load import read_set
from mmd.artifact.preprocess import Preprocessing
from mmd.artifact.review import Review, phase_of
from mmd.config import GateConfig
from mmd.layout import StateDir
from mmd.promotion.evaluate import ask
from mmd.promotion.models import ModelStore
from mmd.promotion.probation import Trial, review
from mmd.samples.store import SampleStore

_MOST_JUDGED = 1000
"""The first so many of them; more would only cost time."""


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
    with SampleStore(state.samples_db) as store:
        chosen = fresh_samples(store, serving.card, before.card)[:_MOST_JUDGED]
        inputs, labels = store.load(chosen)
    # A class that was named since is for the next model.
    is_judged = labels < classes
    old, new = ask(
        [before.model, serving.model],
        [Preprocessing.of(artifact_set)(inputs[is_judged])],
        labels[is_judged],
        manifest=artifact_set.manifest,
        threads=1,
        classes=classes,
    )
    was_right, is_right = old.is_right, new.is_right
    return Trial(
        judged=len(was_right),
        right_before=int(was_right.sum()),
        right_after=int(is_right.sum()),
        won=int((is_right & ~was_right).sum()),
        lost=int((was_right & ~is_right).sum()),
    )


def fresh_samples(store: SampleStore, serving: ModelCard, before: ModelCard) -> list[str]:
    """Return the samples that may judge `serving` against `before`, in the order that they came in."""
    seen = {*serving.sample_ids, *before.sample_ids}
    return [
        record.id
        for record in store.records()
        if record.label is not None and record.ingested > serving.created and record.id not in seen
    ]
