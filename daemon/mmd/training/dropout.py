"""Which values does dropout silence at a step? A pure function of seed and step, the same for every engine."""

from collections.abc import Sequence

import numpy as np

from mmd.artifact.manifest import DropoutSpec
from mmd.training.engine import Floats

_DROPOUT = 2
"""Tells this stream from those of `mmd.training.batches`, which have the numbers 0 and 1."""


def dropout_masks(specs: Sequence[DropoutSpec], seed: int, step: int, size: int) -> dict[str, Floats]:
    """Return the masks of the batch of `size` samples that follows `step` finished steps, by name."""
    return {spec.name: _mask(spec, [seed, _DROPOUT, step, index], size) for index, spec in enumerate(specs)}


def _mask(spec: DropoutSpec, seeds: list[int], size: int) -> Floats:
    # Philox is counter-based: its stream for these seeds never depends on what was drawn before.
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seeds)))
    is_kept = generator.random((size, *spec.shape), dtype=np.float32) >= np.float32(spec.ratio)
    mask: Floats = is_kept.astype(np.float32) / np.float32(1 - spec.ratio)
    return mask
