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
) -> Comparison:
    """Run both models over the preprocessed `inputs` [n, *shape], all of them labelled."""
    return Comparison(
        before=Judged(labels, log_probabilities(before, inputs, manifest=manifest, threads=threads)),
        after=Judged(labels, log_probabilities(after, inputs, manifest=manifest, threads=threads)),
    )


def log_probabilities(
    model: bytes, inputs: NDArray[np.generic], *, manifest: Manifest, threads: int
) -> NDArray[np.float64]:
    """Return what `model` says about the stored `inputs`, [n, classes]."""
    session = open_session(model, threads=threads)
    rows = [np.empty((0, len(manifest.classes)), np.float64)]
    for start in range(0, len(inputs), _BATCH):
        batch = normalise(inputs[start : start + _BATCH], manifest.input)
        (logits,) = session.run([manifest.logits], {manifest.input.name: batch})
        rows.append(log_softmax(logits))
    return np.concatenate(rows)
