"""How does a recording become a stored sample, and a stored sample the values of the networks' input?

By two graphs of the artifact set, so that ingesting, training and predicting cannot differ. Images and tensors have
none: what is stored of them is their values.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import ArtifactSet
from mmd.artifact.session import open_session
from mmd.errors import InputRefused

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 2_000, 384_000
MOST_PHASES = 1000
"""A ratio of rates with a larger denominator is taken as the nearest one without: off by a thousandth at most."""
_BATCH = 32


class Preprocessing:
    """Turns stored samples into values; `normalise` does the rest."""

    def __init__(self, graph: Path | bytes | None, *, threads: int = 1) -> None:
        self._session = open_session(graph, threads=threads) if graph is not None else None

    @classmethod
    def of(cls, artifact_set: ArtifactSet, *, threads: int = 1) -> "Preprocessing":
        manifest = artifact_set.manifest
        name = manifest.graphs.preprocess
        return cls(artifact_set.path(name) if name in manifest.files else None, threads=threads)

    @property
    def is_identity(self) -> bool:
        """Whether values are what is stored."""
        return self._session is None

    def __call__(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return [n, *input.shape] for stored samples [n, *input.stored_shape]."""
        if self._session is None:
            return stored
        if not len(stored):
            return np.empty((0, *self._session.get_outputs()[0].shape[1:]), np.float32)
        batches = (stored[start : start + _BATCH] for start in range(0, len(stored), _BATCH))
        return np.concatenate([self._session.run(None, {"stored": batch.astype(np.int16)})[0] for batch in batches])


class Resampler:
    """Turns recordings into stored samples; opens its graph when it is first asked."""

    def __init__(self, graph: Path | bytes, rate_hz: float) -> None:
        self._graph, self._rate_hz = graph, round(rate_hz)
        self._session: Any = None

    @classmethod
    def of(cls, artifact_set: ArtifactSet) -> "Resampler":
        manifest = artifact_set.manifest
        return cls(artifact_set.path(manifest.graphs.resample), manifest.input.rate_hz)

    def __call__(self, waveform: NDArray[np.float32], rate_hz: int) -> NDArray[np.int16]:
        """Return [length] of a mono `waveform` [n] within -1 to 1. Raises `InputRefused` with the reason alone."""
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise InputRefused(
                f"has {rate_hz:,} samples a second; {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} are understood."
            )
        self._session = self._session or open_session(self._graph)
        ratio = Fraction(self._rate_hz, rate_hz).limit_denominator(MOST_PHASES)
        feed = {"waveform": waveform, "up": np.array(ratio.numerator), "down": np.array(ratio.denominator)}
        stored: NDArray[np.int16] = self._session.run(["stored"], feed)[0]
        return stored
