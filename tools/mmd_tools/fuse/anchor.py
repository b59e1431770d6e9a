"""Is the anchor set one that this artifact set can use?"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmd.errors import UsageError
from mmd_tools.archive import read_archive

_WHAT_IT_IS = "it is an .npz with `inputs` and `labels`, which docs/recipe.md shows how to make."


def read_anchor(
    path: Path, shape: tuple[int, ...], classes: int, *, is_audio: bool = False
) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Return inputs [n, *shape] as stored and labels [n]. Raises `UsageError` naming what does not fit."""
    arrays = read_archive(
        path, lambda reason: UsageError(f"Cannot read the anchor set {path}: {reason}; {_WHAT_IT_IS}")
    )
    missing = {"inputs", "labels"} - set(arrays)
    if missing:
        raise UsageError(f"The anchor set {path} has no array `{sorted(missing)[0]}`; {_WHAT_IT_IS}")
    inputs, labels = arrays["inputs"], arrays["labels"]
    known = ("int16",) if is_audio else ("uint8", "float32")
    if inputs.dtype not in map(np.dtype, known):
        raise UsageError(f"The anchor set {path} holds {inputs.dtype} inputs; {' and '.join(known)} fit.")
    if inputs.shape[1:] != shape or not len(inputs):
        stored = ", ".join(map(str, ("n", *shape)))
        raise UsageError(f"The anchor set {path} has inputs {list(inputs.shape)}; stored samples are [{stored}].")
    if labels.shape != (len(inputs),) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"The anchor set {path} has labels {labels.dtype} {list(labels.shape)}; whole numbers [{len(inputs)}] fit."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"The anchor set {path} has labels outside 0..{classes - 1}; every sample needs its class.")
    if not np.isfinite(inputs).all():
        raise UsageError(f"The anchor set {path} has inputs that are not finite; remove them.")
    return inputs, labels.astype(np.int64)
