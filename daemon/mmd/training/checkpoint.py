"""How is the state of training kept, so that a killed round loses at most a few steps and never trusts half a file?

A checkpoint is one safetensors file: `parameter/<name>`, `first_moment/<name>`, `second_moment/<name>`, and in its
metadata the step, notes of the round, and a sha256 over all of it. Both engines read and write it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmd import durable
from mmd.errors import StoreDamaged
from mmd.training.engine import Floats, TrainingState

_FORMAT = "1"
_PREFIX = "step-"
_SUFFIX = ".safetensors"
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A state, and what the round needs to know beside it."""

    state: TrainingState
    notes: Mapping[str, str] = field(default_factory=dict)


def save_checkpoint(path: Path, state: TrainingState, *, notes: Mapping[str, str] | None = None) -> None:
    """Write `state` durably to `path`; a crash leaves the old file or the new one, never half."""
    from safetensors.numpy import save

    tensors = dict(_tensors(state))
    metadata = {f"note/{key}": value for key, value in (notes or {}).items()}
    metadata |= {"format": _FORMAT, "step": str(state.step)}
    metadata["sha256"] = _digest(tensors, metadata)
    durable.write_bytes(path, save(tensors, metadata=metadata))


def load_checkpoint(path: Path) -> TrainingState:
    """Read the state in `path`. Raises `StoreDamaged` when it does not verify."""
    return read_checkpoint(path).state


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the state and the notes in `path`. Raises `StoreDamaged` when it does not verify."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors: dict[str, Floats] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping: it has keys() and cannot be iterated)
    except (OSError, SafetensorError) as error:
        raise StoreDamaged(f"Checkpoint {path.stem} cannot be read ({error}).") from error
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise StoreDamaged(f"Checkpoint {path.stem} fails its checksum.")
    if metadata.get("format") != _FORMAT:
        raise StoreDamaged(f"Checkpoint {path.stem} has format {metadata.get('format')}; this mmd reads {_FORMAT}.")
    state = TrainingState(
        step=int(metadata["step"]),
        parameters=_group(tensors, "parameter/"),
        first_moments=_group(tensors, "first_moment/"),
        second_moments=_group(tensors, "second_moment/"),
    )
    notes = {key.removeprefix("note/"): value for key, value in metadata.items() if key.startswith("note/")}
    return Checkpoint(state, notes)


def _tensors(state: TrainingState) -> Iterator[tuple[str, Floats]]:
    groups = {
        "parameter/": state.parameters,
        "first_moment/": state.first_moments,
        "second_moment/": state.second_moments,
    }
    for prefix, group in groups.items():
        for name, value in group.items():
            yield prefix + name, np.ascontiguousarray(value).reshape(value.shape)


def _group(tensors: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, Floats], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


class CheckpointFolder:
    """The checkpoints of one round.

    Regular ones lie at multiples of `every` steps and the newest few are kept; one more, at any step, comes from a
    trainer that was asked to leave.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self._folder = folder
        self._every = every

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of its step, then remove those that are not needed any more."""
        durable.make_folder(self._folder)
        step = checkpoint.state.step
        save_checkpoint(self._path(step), checkpoint.state, notes=checkpoint.notes)
        regular = [at for at in self._newest_first() if self._is_regular(at)]
        for old in self._newest_first():
            if old < step and old not in regular[:_KEPT]:
                self._path(old).unlink(missing_ok=True)

    def newest(self, *, regular_only: bool = False) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest checkpoint that verifies, and a sentence for every newer one that did not.

        The ones that do not verify are removed.
        """
        complaints: list[str] = []
        for step in self._newest_first():
            if regular_only and not self._is_regular(step):
                continue
            try:
                checkpoint = read_checkpoint(self._path(step))
            except StoreDamaged as error:
                complaints.append(str(error))
                self._path(step).unlink(missing_ok=True)
                continue
            if complaints:
                complaints.append(f"Resuming from step {checkpoint.state.step}.")
            return checkpoint, complaints
        if complaints:
            complaints.append("Beginning the round again.")
        return None, complaints

    def remove_after(self, step: int) -> None:
        """Remove every checkpoint of a later step, so that nothing resumes from what was found to be bad."""
        for later in self._newest_first():
            if later > step:
                self._path(later).unlink(missing_ok=True)

    def _is_regular(self, step: int) -> bool:
        return step % self._every == 0

    def _path(self, step: int) -> Path:
        return self._folder / f"{_PREFIX}{step:08d}{_SUFFIX}"

    def _newest_first(self) -> list[int]:
        names = (path.name for path in self._folder.glob(f"{_PREFIX}*{_SUFFIX}"))
        digits = (name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in names)
        return sorted((int(each) for each in digits if each.isdigit()), reverse=True)
