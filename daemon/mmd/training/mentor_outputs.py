"""What does the Mentor say about the samples of this round? It runs once a sample, and the answers are kept on disk.

They lie as one `.npy` a tensor in `rounds/NNNN/mentor/`, in the order of the round's samples with the replay samples
after them, and are mapped into memory, so that a round needs memory for one batch of them only.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd import durable
from mmd.artifact.load import ArtifactSet, file_sha256, normalise
from mmd.artifact.manifest import Manifest
from mmd.training.engine import Floats

_BATCH = 32
_INDEX_NAME = "index.json"


class MentorOutputs(Protocol):
    """Gives the Mentor's outputs for a batch."""

    def rows(self, indices: NDArray[np.int64]) -> Mapping[str, Floats]:
        """Return every output of `mentor.onnx` that training uses, by name, [len(indices), ...]."""
        ...


class SilentMentor:
    """Zeros, for a round whose loss never asks the Mentor: the graph wants its inputs all the same."""

    def __init__(self, manifest: Manifest) -> None:
        self._shapes = output_shapes(manifest)

    def rows(self, indices: NDArray[np.int64]) -> Mapping[str, Floats]:
        return {name: np.zeros((len(indices), *shape), np.float32) for name, shape in self._shapes.items()}


class CachedMentor:
    """The Mentor's outputs, mapped from the files in a round's folder."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._arrays: dict[str, Floats] = {
            name: np.load(folder / _file_name(position), mmap_mode="r", allow_pickle=False)
            for position, name in enumerate(names)
        }

    def rows(self, indices: NDArray[np.int64]) -> Mapping[str, Floats]:
        return {name: np.ascontiguousarray(array[indices]) for name, array in self._arrays.items()}


class _Index(msgspec.Struct, frozen=True):
    """Everything in `index.json`: what the files hold and how they hash."""

    inputs_sha256: str
    artifact_sha256: str
    names: list[str]
    sha256: list[str]


def output_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return the Mentor's outputs that training uses, by name, without the batch."""
    shapes = {pair.mentor: pair.mentor_shape for pair in manifest.probes}
    return shapes | {manifest.mentor_logits: (len(manifest.classes),)}


def has_mentor(manifest: Manifest) -> bool:
    """Return whether the set carries a Mentor at all; one made for labels only does not."""
    return manifest.graphs.mentor in manifest.files


def cache_mentor_outputs(
    folder: Path, artifact_set: ArtifactSet, inputs: NDArray[np.generic], *, threads: int
) -> CachedMentor:
    """Return the Mentor's outputs for the preprocessed `inputs` [n, *shape], computed unless `folder` has them whole.

    A crash leaves the folder absent or whole; a damaged one is computed again, to the same bits.
    """
    names = list(output_shapes(artifact_set.manifest))
    wanted = hashlib.sha256(np.ascontiguousarray(inputs).tobytes()).hexdigest()
    if not _is_whole(folder, artifact_set, wanted, names):
        shutil.rmtree(folder, ignore_errors=True)
        prepared = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(prepared, ignore_errors=True)
        durable.make_folder(prepared)
        _compute(prepared, artifact_set, inputs, names, threads)
        hashes = [file_sha256(prepared / _file_name(position)) for position in range(len(names))]
        index = _Index(inputs_sha256=wanted, artifact_sha256=artifact_set.sha256, names=names, sha256=hashes)
        (prepared / _INDEX_NAME).write_bytes(msgspec.json.encode(index))
        durable.install_folder(prepared, folder)
    return CachedMentor(folder, names)


def _is_whole(folder: Path, artifact_set: ArtifactSet, inputs_sha256: str, names: list[str]) -> bool:
    try:
        index = msgspec.json.decode((folder / _INDEX_NAME).read_bytes(), type=_Index)
        hashes = [file_sha256(folder / _file_name(position)) for position in range(len(names))]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return index == _Index(inputs_sha256=inputs_sha256, artifact_sha256=artifact_set.sha256, names=names, sha256=hashes)


def _compute(
    folder: Path, artifact_set: ArtifactSet, inputs: NDArray[np.generic], names: list[str], threads: int
) -> None:
    from mmd.artifact.session import open_session

    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor), threads=threads)
    shapes = output_shapes(manifest)
    files = [
        np.lib.format.open_memmap(
            folder / _file_name(position), mode="w+", dtype=np.float32, shape=(len(inputs), *shapes[name])
        )
        for position, name in enumerate(names)
    ]
    for start in range(0, len(inputs), _BATCH):
        batch = normalise(inputs[start : start + _BATCH], manifest.input)
        for file, value in zip(files, session.run(names, {manifest.input.name: batch}), strict=True):
            file[start : start + _BATCH] = value
    for file in files:
        file.flush()


def _file_name(position: int) -> str:
    return f"{position:02d}.npy"
