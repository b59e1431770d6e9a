"""What do two models say about the same samples? Inference for the gate, one batch at a time."""

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import normalise
from mmd.artifact.manifest import Manifest
from mmd.artifact.session import open_session
from mmd.promotion.gate import Comparison, Judged, log_softmax

_BATCH = 64


def compare(
    before: bytes,
    after: bytes,
    inputs: NDArray[np.generic],
    labels: NDArray[np.int64],
    *,
    manifest: Manifest,
    threads: int,
    classes: int | None = None,
) -> Comparison:
    """Run both models over the preprocessed `inputs` [n, *shape], all of them labelled.

    `classes`: how many outputs have a name; those behind them are never predicted. Both models are asked about the same
    ones, so that a class that only the candidate has learned counts for it by more than chance, or not at all.
    """
    named = len(manifest.classes) if classes is None else classes
    return Comparison(
        before=Judged(labels, log_probabilities(before, inputs, manifest=manifest, threads=threads, named=named)),
        after=Judged(labels, log_probabilities(after, inputs, manifest=manifest, threads=threads, named=named)),
    )


def log_probabilities(
    model: bytes, inputs: NDArray[np.generic], *, manifest: Manifest, threads: int, named: int
) -> NDArray[np.float64]:
    """Return what `model` says about the preprocessed `inputs`, [n, named]."""
    session = open_session(model, threads=threads)
    rows = [np.empty((0, named), np.float64)]
    for start in range(0, len(inputs), _BATCH):
        batch = normalise(inputs[start : start + _BATCH], manifest.input)
        (logits,) = session.run([manifest.logits], {manifest.input.name: batch})
        rows.append(log_softmax(logits[:, :named]))
    return np.concatenate(rows)
