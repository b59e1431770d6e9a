"""What do models say about the same labelled samples? Inference for the gate, one view and one batch at a time."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import normalise
from mmd.artifact.manifest import Manifest
from mmd.artifact.session import open_session
from mmd.promotion.answers import Judged, log_softmax

_BATCH = 64


def ask(
    models: Sequence[bytes],
    views: Iterable[NDArray[np.generic]],
    labels: NDArray[np.int64],
    *,
    manifest: Manifest,
    threads: int,
    classes: int | None = None,
) -> list[Judged]:
    """Run each of `models` over preprocessed inputs [n, *shape], all of them labelled, in one view after the other.

    `classes`: how many outputs have a name; those behind them are never predicted. All models are asked about the same
    ones, so that a class that only a candidate has learned counts for it by more than chance, or not at all.
    """
    named = len(manifest.classes) if classes is None else classes
    sessions = [open_session(model, threads=threads) for model in models]
    said: list[list[NDArray[np.float64]]] = [[] for _ in models]
    for inputs in views:
        for session, answers in zip(sessions, said, strict=True):
            answers.append(_log_probabilities(session, inputs, manifest, named))
    return [Judged(labels, np.stack(answers)) for answers in said]


def _log_probabilities(
    session: Any, inputs: NDArray[np.generic], manifest: Manifest, named: int
) -> NDArray[np.float64]:
    rows = [np.empty((0, named), np.float64)]
    for start in range(0, len(inputs), _BATCH):
        batch = normalise(inputs[start : start + _BATCH], manifest.input)
        (logits,) = session.run([manifest.logits], {manifest.input.name: batch})
        rows.append(log_softmax(logits[:, :named]))
    return np.concatenate(rows)
