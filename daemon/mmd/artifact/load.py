"""Is this artifact set whole, and what is in it? Opening a set verifies every file in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mmd.artifact.manifest import FORMAT_VERSION, InputSpec, Manifest, is_intact, manifest_path
from mmd.errors import ArtifactRefused

if TYPE_CHECKING:  # numpy is heavy, and the supervisor reads manifests without it
    import numpy as np
    from numpy.typing import NDArray


class ArtifactSet(msgspec.Struct, frozen=True):
    """A verified artifact set on disk."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Of `manifest.json`, which holds the hash of every other file: it names the whole set."""

    def path(self, name: str) -> Path:
        """Return the path of one of the files that the manifest lists."""
        return self.folder / name

    def anchor(self) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Return the anchor set: inputs [n, *shape] as stored, and labels [n]."""
        import numpy as np

        with np.load(self.path(self.manifest.graphs.anchor), allow_pickle=False) as archive:
            return archive["inputs"], archive["labels"]

    def replay_anchor(self) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Return the half of the anchor set that rounds may train on: the even rows."""
        inputs, labels = self.anchor()
        return inputs[0::2], labels[0::2]

    def gate_anchor(self) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Return the half of the anchor set that the gate judges by, never trained on: the odd rows."""
        inputs, labels = self.anchor()
        return inputs[1::2], labels[1::2]


def open_set(folder: Path) -> ArtifactSet:
    """Open the artifact set in `folder`. Raises `ArtifactRefused` naming the first file that does not verify."""
    artifact_set = read_set(folder)
    for name, record in artifact_set.manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            digest = file_sha256(path) if size == record.size else ""
        except OSError as error:
            raise ArtifactRefused(
                f"The artifact set {folder} misses {name} ({error.strerror}); install it again with `mmd init`."
            ) from error
        if digest != record.sha256:
            raise ArtifactRefused(
                f"The artifact set {folder} is damaged: {name} fails its checksum; install it again with `mmd init`."
            )
    return artifact_set


def read_set(folder: Path) -> ArtifactSet:
    """Read only the manifest, for commands that must answer at once. Verifies nothing else."""
    path = manifest_path(folder)
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ArtifactRefused(
            f"No artifact set in {folder}: {path.name} cannot be read ({error.strerror}); "
            "run `mmd init`, or name a folder made by `mmd-tools fuse`."
        ) from error
    try:
        version = msgspec.json.decode(encoded, type=_Versioned).format
        if version != FORMAT_VERSION:
            raise ArtifactRefused(
                f"The {path.name} of {folder} has format {version}; this mmd reads format {FORMAT_VERSION}. "
                f"{'Upgrade mmd.' if version > FORMAT_VERSION else 'Build the set again with `mmd-tools fuse`.'}"
            )
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactRefused(
            f"The artifact set {folder} is damaged: {path.name} does not parse ({error}); install it again."
        ) from error
    if not is_intact(manifest, encoded):
        raise ArtifactRefused(
            f"The artifact set {folder} is damaged: {path.name} fails its checksum; install it again with `mmd init`."
        )
    return ArtifactSet(folder=folder, manifest=manifest, sha256=hashlib.sha256(encoded).hexdigest())


class _Versioned(msgspec.Struct):
    format: int


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def normalise(values: NDArray[np.generic], spec: InputSpec) -> NDArray[np.float32]:
    """Turn values [n, *shape], as `Preprocessing` gives them, into what the networks take, float32:

    (v * scale - mean) / std.
    """
    import numpy as np

    channel_axis = (1, -1) + (1,) * (len(spec.shape) - 1)
    mean = np.asarray(spec.mean, np.float32).reshape(channel_axis)
    std = np.asarray(spec.std, np.float32).reshape(channel_axis)
    return (values.astype(np.float32) * np.float32(spec.scale) - mean) / std
