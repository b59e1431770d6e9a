"""What does the Mentor say about a batch? It is asked once a sample and view, and the answers are kept in the cache.

They are kept as 16-bit floats: what the probes compare is far coarser. The Mentor is asked about one row at a time, so
that a row which has to be asked about again gets the same bits, whatever is asked with it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mmd.artifact.load import ArtifactSet, normalise
from mmd.artifact.manifest import Manifest
from mmd.training.engine import Floats
from mmd.training.rows import TARGET_KIND, GuardedCache, Indices, ReadThrough, RoundInputs, Row, chunks

_HALF = np.dtype("<f2")
_LARGEST_HALF = 65504.0
_TRIES = 3


class MentorOutputs(Protocol):
    """Gives the Mentor's outputs for a batch."""

    def rows(self, samples: Indices, views: Indices) -> Mapping[str, Floats]:
        """Return every output of `mentor.onnx` that training uses, by name, [len(samples), ...]."""
        ...


class SilentMentor:
    """Zeros, for a round whose loss never asks the Mentor: the graph wants its inputs all the same."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Speak under the names and in the `shapes` of `output_shapes`; none for a graph with the Mentor in it."""
        self._shapes = shapes

    def rows(self, samples: Indices, views: Indices) -> Mapping[str, Floats]:
        return {name: np.zeros((len(samples), *shape), np.float32) for name, shape in self._shapes.items()}


class CachedMentor:
    """The Mentor's outputs, asked for once and then read from the cache."""

    def __init__(
        self,
        artifact_set: ArtifactSet,
        inputs: RoundInputs,
        sample_ids: Sequence[str] = (),
        guarded: GuardedCache | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._set = artifact_set
        self._inputs = inputs
        self._threads = threads
        self._shapes = output_shapes(artifact_set.manifest)
        self._session: Any = None
        self._kept = ReadThrough(TARGET_KIND, sample_ids, self._ask, guarded)

    def rows(self, samples: Indices, views: Indices) -> Mapping[str, Floats]:
        contents = self._kept.contents(list(zip(samples.tolist(), views.tolist(), strict=True)))
        numbers = np.frombuffer(b"".join(contents), _HALF).reshape(len(samples), -1).astype(np.float32)
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])
        parts = np.split(numbers, ends[:-1], axis=1)
        return {
            name: np.ascontiguousarray(part).reshape(len(samples), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def ask_all(self, rows: Iterable[Row]) -> None:
        """Ask the Mentor about every row that the cache does not have whole, and put the Mentor away."""
        for chunk in chunks(rows):
            self._kept.contents(chunk)
        self._session = None

    def missing(self, rows: Iterable[Row]) -> int:
        """Return how many of `rows` the Mentor has not been asked about."""
        return self._kept.missing(rows)

    def measured(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Return the seconds a row for asking the Mentor, and for reading what it said; a few `rows` are enough."""
        self._kept.contents(rows)
        asking = _shortest(lambda: list(self._ask(rows)))
        return asking / len(rows), _shortest(lambda: self._kept.contents(rows)) / len(rows)

    def _ask(self, rows: Sequence[Row]) -> Iterator[bytes]:
        from mmd.artifact.session import open_session

        manifest = self._set.manifest
        if self._session is None:
            self._session = open_session(self._set.path(manifest.graphs.mentor), threads=self._threads)
        for stored in self._inputs.rows(*np.array(rows, np.int64).T):
            feed = {manifest.input.name: normalise(stored[None], manifest.input)}
            outputs = np.concatenate([output.ravel() for output in self._session.run(list(self._shapes), feed)])
            yield np.clip(outputs, -_LARGEST_HALF, _LARGEST_HALF).astype(_HALF).tobytes()


def output_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return the Mentor's outputs that training uses, by name, without the batch."""
    shapes = {pair.mentor: pair.mentor_shape for pair in manifest.probes}
    return shapes | {manifest.mentor_logits: (len(manifest.classes),)}


def has_mentor(manifest: Manifest) -> bool:
    """Return whether the set carries a Mentor at all; one made for labels only does not."""
    return manifest.graphs.mentor in manifest.files


def target_bytes(manifest: Manifest) -> int:
    """Return how much the Mentor says about one row, in bytes."""
    return _HALF.itemsize * sum(math.prod(shape) for shape in output_shapes(manifest).values())


def _shortest(work: Callable[[], object]) -> float:
    def seconds() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return min(seconds() for _ in range(_TRIES))
