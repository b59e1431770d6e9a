"""What do models say about the same labelled samples? Inference for the gate, one view and one batch at a time."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import normalise
from mmd.artifact.manifest import InputSpec, Manifest
from mmd.artifact.session import open_session
from mmd.promotion.answers import Judged, log_softmax

_MOST_AT_ONCE = 64
_BATCH_BYTES = 4 << 20
"""Of the values that a network is given at once; what its layers make of them is larger."""
_LOT_BYTES = 16 << 20


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


def batch_size(shape: Sequence[int]) -> int:
    """Return how many inputs of `shape` a network is asked about at once."""
    return max(1, min(_MOST_AT_ONCE, _BATCH_BYTES // (4 * math.prod(shape))))


def lots(count: int, spec: InputSpec) -> Iterator[slice]:
    """Cut `count` samples into lots that fit a small board's memory, each of whole batches but the last.

    The batches are those of all samples together, so that the answers are too, to the bit. There is one lot at least.
    """
    batch = batch_size(spec.shape)
    largest = 4 * max(math.prod(spec.stored_shape), math.prod(spec.shape))
    size = batch * max(1, _LOT_BYTES // (largest * batch))
    return (slice(start, start + size) for start in range(0, max(1, count), size))


def _log_probabilities(
    session: Any, inputs: NDArray[np.generic], manifest: Manifest, named: int
) -> NDArray[np.float64]:
    rows = [np.empty((0, named), np.float64)]
    size = batch_size(manifest.input.shape)
    for start in range(0, len(inputs), size):
        batch = normalise(inputs[start : start + size], manifest.input)
        (logits,) = session.run([manifest.logits], {manifest.input.name: batch})
        rows.append(log_softmax(logits[:, :named]))
    return np.concatenate(rows)
