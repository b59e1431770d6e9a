"""What does the current model say about this input? The door for programs that hold a `mmd.Predictor`.

A program that holds one gets a promoted model at its next call, never half of it, and keeps the old one when the new
one cannot be loaded.
"""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import (
    VerifiedModel,
    generation_folder,
    linked_generation,
    newest_whole_model,
    read_model,
)
from mmd.artifact.load import normalise, read_set
from mmd.artifact.manifest import Manifest
from mmd.artifact.preprocess import Preprocessing, Resampler
from mmd.artifact.session import open_session
from mmd.config import SamplesConfig
from mmd.errors import ArtifactRefused, InputRefused, MmdError, StoreDamaged, UsageError
from mmd.layout import StateDir
from mmd.serving.form import form_of

_BATCH = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What one model said about a batch of inputs."""

    labels: tuple[str, ...]
    """The most probable class of each input."""
    probabilities: NDArray[np.float32]
    """[n, classes]"""
    classes: tuple[str, ...]
    generation: int
    """All rows come from this one model."""

    def json_lines(self, name: str) -> Iterator[str]:
        """Yield one JSON object a row, as `mmd predict --json` prints it for the file `name`."""
        for row, (label, probabilities) in enumerate(zip(self.labels, self.probabilities, strict=True)):
            path = name if len(self.labels) == 1 else f"{name}[{row}]"
            by_class = dict(zip(self.classes, map(float, probabilities), strict=True))
            answer = {"path": path, "label": label, "probabilities": by_class, "generation": self.generation}
            yield json.dumps(answer)


@dataclass(frozen=True)
class ServedModel:
    """Which model answers, and what it takes."""

    generation: int
    sha256: str
    classes: tuple[str, ...]
    input: str
    """In words: `image 1x28x28`."""


@dataclass(frozen=True)
class _Loaded:
    """One model, ready to run; replaced as a whole and never changed."""

    generation: int
    sha256: str
    artifact_sha256: str
    """Of the set that it came from, or was trained by."""
    manifest: Manifest
    classes: tuple[str, ...]
    """Of the outputs, in their order; those behind them belong to no class yet."""
    session: Any
    preprocessing: Preprocessing
    resample: Resampler

    def run(self, stored: NDArray[np.generic]) -> Prediction:
        """Answer for stored values [n, *shape], some at a time: many need no more memory than some."""
        starts = range(0, max(1, len(stored)), _BATCH)
        logits = np.concatenate([self._logits(stored[start : start + _BATCH]) for start in starts])
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
        labels = tuple(self.classes[index] for index in probabilities.argmax(axis=1))
        return Prediction(labels, probabilities, self.classes, self.generation)

    def _logits(self, stored: NDArray[np.generic]) -> NDArray[np.float32]:
        manifest = self.manifest
        values = normalise(self.preprocessing(stored), manifest.input)
        (logits,) = self.session.run([manifest.logits], {manifest.input.name: values})
        named: NDArray[np.float32] = logits[:, : len(self.classes)]
        return named


class Predictor:
    """Predicts with whatever model serves. Any number of threads may call it at once."""

    def __init__(
        self,
        state: StateDir | Path | str,
        *,
        threads: int = 1,
        limits: SamplesConfig | None = None,
        is_refreshed: bool = False,
    ) -> None:
        """Load the serving model; when it is damaged, the newest that verifies, with a warning in the log.

        `limits` are those of `mmd ingest`. With `is_refreshed` a new model is taken up by `refresh` alone, and no call
        ever loads one. Raises `UsageError` without an artifact set, `StoreDamaged` when no model verifies.
        """
        self._state = state if isinstance(state, StateDir) else StateDir(Path(state).absolute())
        if not self._state.is_initialised:
            raise UsageError(f"There is no artifact set in {self._state.root}; run `mmd init` first.")
        self._threads = threads
        self._limits = limits or SamplesConfig()
        self._is_refreshed = is_refreshed
        self._swapping = threading.Lock()
        self._seen = self._link()
        model, complaints = newest_whole_model(self._state.models)
        for complaint in complaints:
            log.warning(complaint)
        if model is None:
            raise StoreDamaged(f"No model in {self._state.models} verifies; run `mmd init` again.")
        self._loaded = self._load(model)

    @property
    def generation(self) -> int:
        """The generation that the next call would use, as far as is known now."""
        return self._loaded.generation

    @property
    def model(self) -> ServedModel:
        """The model that the next call would use, as far as is known now."""
        loaded = self._loaded
        return ServedModel(loaded.generation, loaded.sha256, loaded.classes, form_of(loaded.manifest).described)

    def refresh(self) -> None:
        """Take up the model that `current` names, if it is another one; those who predict meanwhile use the old one."""
        while (link := self._link()) != self._seen and self._swapping.acquire(blocking=False):
            try:
                if not self._swap() and (self._is_refreshed or not self._state.is_initialised):
                    return  # what comes next may be what it lacked: the set, while `mmd init --force` replaces it
                self._seen = link
            finally:
                self._swapping.release()

    def predict(self, source: "Path | str | bytes | NDArray[np.generic]", *, rate_hz: int | None = None) -> Prediction:
        """Predict one file (or what is in it, as bytes), or an array of stored values: [n, *shape] or one of [*shape].

        With `rate_hz` the array is one recording as the microphone gave it, of any length: [frames] or
        [frames, channels], floats within -1 to 1 or 16-bit whole numbers.

        Raises `InputRefused` for what the model cannot take.
        """
        if not self._is_refreshed:
            self.refresh()
        loaded = self._loaded
        if isinstance(source, bytes):
            return loaded.run(_decoded(source, loaded, self._limits))
        if isinstance(source, (str, os.PathLike)):
            return loaded.run(_read(Path(source), loaded, self._limits))
        if rate_hz is not None:
            return loaded.run(_heard(np.asarray(source), rate_hz, loaded))
        return loaded.run(_as_batch(np.asarray(source), loaded.manifest))

    def _link(self) -> tuple[int, int] | None:
        """Return what tells this `current` from every other one; a new link is a new inode or a later time."""
        try:
            status = (self._state.models / "current").lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _swap(self) -> bool:
        """Load what `current` names; return whether that is what answers from now on."""
        linked = linked_generation(self._state.models)
        if linked is None:
            return False
        try:
            model = read_model(generation_folder(self._state.models, linked))
            before = self._loaded.generation, self._loaded.sha256, self._loaded.artifact_sha256
            if (linked, model.card.sha256, model.card.artifact_sha256) == before:
                return True
            loaded = self._load(model)
        except (MmdError, MemoryError) as error:
            log.warning("%s Generation %d goes on serving.", str(error) or "Out of memory.", self._loaded.generation)
            return False
        # One reference changes: a call has the old model or the new one, never parts of both.
        self._loaded = loaded
        log.info("serving generation=%d", linked)
        return True

    def _load(self, model: VerifiedModel) -> _Loaded:
        """Open the very bytes that were verified, and try them once."""
        artifact_set = read_set(self._state.artifact_set)
        session = open_session(model.model, threads=self._threads)
        loaded = _Loaded(
            model.card.generation,
            model.card.sha256,
            model.card.artifact_sha256,
            artifact_set.manifest,
            model.card.classes or artifact_set.manifest.classes,
            session,
            Preprocessing.of(artifact_set, threads=self._threads),
            Resampler.of(artifact_set),
        )
        try:
            loaded.run(np.zeros((1, *artifact_set.manifest.input.stored_shape), np.float32))
        except Exception as error:  # the runtime's exceptions share no base class below Exception
            said = " ".join(str(error).split())
            raise ArtifactRefused(
                f"Generation {loaded.generation} does not run ({said}); build the set again."
            ) from error
        return loaded


def _as_batch(array: NDArray[np.generic], manifest: Manifest) -> NDArray[np.generic]:
    shape = manifest.input.stored_shape
    batch = array[None] if array.shape == shape else array
    if batch.shape[1:] != shape:
        raise InputRefused(f"The array has the shape {list(array.shape)}; the model takes [n, {str(list(shape))[1:]}.")
    if batch.dtype.kind not in "uif":
        raise InputRefused(f"The array holds {array.dtype}; the model takes numbers.")
    if batch.dtype.kind == "f" and not np.isfinite(batch).all():
        raise InputRefused("The array holds values that are not finite (NaN or infinity).")
    return batch


def _heard(array: NDArray[np.generic], rate_hz: int, loaded: _Loaded) -> NDArray[np.generic]:
    """Bring one recording to the form in which the store would hold it."""
    from mmd.samples.recording import stored_recording

    form = form_of(loaded.manifest)
    if form.kind != "audio":
        raise InputRefused(f"The model takes {form.described}, no recordings; leave the rate away.")
    if array.ndim not in (1, 2) or not array.size or (array.dtype.kind != "f" and array.dtype != np.int16):
        raise InputRefused(
            f"The recording is {array.dtype} {list(array.shape)}; floats or int16 [frames] or [frames, channels] fit."
        )
    scale = np.float32(1 / 32768 if array.dtype == np.int16 else 1)
    waveform = array.astype(np.float32) * scale
    try:
        content = stored_recording(
            waveform if array.ndim == 1 else waveform.mean(axis=1), rate_hz, form, loaded.resample
        )
    except InputRefused as refusal:
        raise InputRefused(f"The recording {refusal}") from refusal
    return np.frombuffer(content, form.dtype)[None]


def _read(path: Path, loaded: _Loaded, limits: SamplesConfig) -> NDArray[np.generic]:
    """Decode a file exactly as `mmd ingest` does, so that a prediction sees what training saw."""
    from mmd.samples.find import ARRAY_SUFFIXES, opened

    suffix = path.suffix.lower()
    try:
        with opened(path) as file:
            return _stored(file, loaded, limits, is_array=suffix in ARRAY_SUFFIXES, is_archive=suffix == ".npz")
    except InputRefused as refusal:
        raise InputRefused(f"{path} {refusal}") from refusal


def _decoded(content: bytes, loaded: _Loaded, limits: SamplesConfig) -> NDArray[np.generic]:
    """Decode what is in a file; its first bytes say whether it holds an array."""
    from mmd.samples.arrays import is_archive, is_array

    file = io.BytesIO(content)
    try:
        return _stored(file, loaded, limits, is_array=is_array(content), is_archive=is_archive(content))
    except InputRefused as refusal:
        raise InputRefused(f"The sample {refusal}") from refusal


def _stored(
    file: IO[bytes], loaded: _Loaded, limits: SamplesConfig, *, is_array: bool, is_archive: bool
) -> NDArray[np.generic]:
    from mmd.samples.arrays import ArrayFile
    from mmd.samples.decode import decode

    form = form_of(loaded.manifest)
    if is_array:
        rows = ArrayFile(file, form, is_archive=is_archive, max_bytes=limits.quota_mib * 2**20)
        contents = [row.content for row in rows]
    else:
        contents = [decode(file, form, limits, loaded.resample)]
    return np.frombuffer(b"".join(contents), form.dtype).reshape(len(contents), *form.shape)
