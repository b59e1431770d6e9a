"""What does the current model say about this input? The door for programs that hold a `mmd.Predictor`.

A program that holds one gets a promoted model at its next call, never half of it, and keeps the old one when the new
one cannot be loaded.
"""

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from mmd.errors import InputRefused, MmdError, StoreDamaged, UsageError
from mmd.layout import StateDir
from mmd.serving.form import form_of

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


@dataclass(frozen=True)
class _Loaded:
    """One model, ready to run; replaced as a whole and never changed."""

    generation: int
    sha256: str
    manifest: Manifest
    classes: tuple[str, ...]
    """Of the outputs, in their order; those behind them belong to no class yet."""
    session: Any
    preprocessing: Preprocessing
    resample: Resampler

    def run(self, stored: NDArray[np.generic]) -> Prediction:
        manifest = self.manifest
        values = normalise(self.preprocessing(stored), manifest.input)
        (logits,) = self.session.run([manifest.logits], {manifest.input.name: values})
        logits = logits[:, : len(self.classes)]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
        labels = tuple(self.classes[index] for index in probabilities.argmax(axis=1))
        return Prediction(labels, probabilities, self.classes, self.generation)


class Predictor:
    """Predicts with whatever model serves. Any number of threads may call it at once."""

    def __init__(self, state: StateDir | Path | str, *, threads: int = 1) -> None:
        """Load the serving model; when it is damaged, the newest that verifies, with a warning in the log.

        Raises `UsageError` without an artifact set, `StoreDamaged` when no model verifies.
        """
        self._state = state if isinstance(state, StateDir) else StateDir(Path(state).absolute())
        if not self._state.is_initialised:
            raise UsageError(f"There is no artifact set in {self._state.root}; run `mmd init` first.")
        self._threads = threads
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

    def predict(self, source: "Path | str | NDArray[np.generic]", *, rate_hz: int | None = None) -> Prediction:
        """Predict one file, or an array of stored values: [n, *shape] or one sample of [*shape].

        With `rate_hz` the array is one recording as the microphone gave it, of any length: [frames] or
        [frames, channels], floats within -1 to 1 or 16-bit whole numbers.

        Raises `InputRefused` for what the model cannot take.
        """
        loaded = self._current()
        if isinstance(source, (str, os.PathLike)):
            return loaded.run(_read(Path(source), loaded))
        if rate_hz is not None:
            return loaded.run(_heard(np.asarray(source), rate_hz, loaded))
        return loaded.run(_as_batch(np.asarray(source), loaded.manifest))

    def _current(self) -> _Loaded:
        """Return the serving model, loading it first when the link has moved since the last call."""
        link = self._link()
        if link != self._seen and self._swapping.acquire(blocking=False):
            # Others go on with the old model meanwhile; nobody ever waits for a swap.
            try:
                self._swap()
                self._seen = link
            finally:
                self._swapping.release()
        return self._loaded

    def _link(self) -> tuple[int, int] | None:
        """Return what tells this `current` from every other one; a new link is a new inode or a later time."""
        try:
            status = (self._state.models / "current").lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _swap(self) -> None:
        linked = linked_generation(self._state.models)
        if linked is None:
            return
        try:
            model = read_model(generation_folder(self._state.models, linked))
            if (linked, model.card.sha256) == (self._loaded.generation, self._loaded.sha256):
                return
            loaded = self._load(model)
        except MmdError as error:
            log.warning("%s Generation %d goes on serving.", error, self._loaded.generation)
            return
        # One reference changes: a call has the old model or the new one, never parts of both.
        self._loaded = loaded
        log.info("serving generation=%d", linked)

    def _load(self, model: VerifiedModel) -> _Loaded:
        """Open the very bytes that were verified, and try them once."""
        artifact_set = read_set(self._state.artifact_set)
        session = open_session(model.model, threads=self._threads)
        loaded = _Loaded(
            model.card.generation,
            model.card.sha256,
            artifact_set.manifest,
            model.card.classes or artifact_set.manifest.classes,
            session,
            Preprocessing.of(artifact_set, threads=self._threads),
            Resampler.of(artifact_set),
        )
        loaded.run(np.zeros((1, *artifact_set.manifest.input.stored_shape), np.float32))
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


def _read(path: Path, loaded: _Loaded) -> NDArray[np.generic]:
    """Decode a file exactly as `mmd ingest` does, so that a prediction sees what training saw."""
    from mmd.samples.arrays import ArrayFile
    from mmd.samples.decode import decode
    from mmd.samples.find import ARRAY_SUFFIXES, opened

    form = form_of(loaded.manifest)
    suffix = path.suffix.lower()
    try:
        with opened(path) as file:
            if suffix in ARRAY_SUFFIXES:
                contents = [row.content for row in ArrayFile(file, form, is_archive=suffix == ".npz")]
            else:
                contents = [decode(file, form, SamplesConfig(), loaded.resample)]
    except InputRefused as refusal:
        raise InputRefused(f"{path} {refusal}") from refusal
    return np.frombuffer(b"".join(contents), form.dtype).reshape(len(contents), *form.shape)
