"""How does a WAV or FLAC file become the bytes of one sample?

The channels are averaged, then `resample.onnx` of the artifact set brings the recording to the set's rate and length:
it keeps the loudest stretch, and puts the centre of its energy in the middle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm, describe_start

FLAC_MAGIC = b"fLaC"
LOUDEST = 4.0
"""A recording may reach above 1; what reaches above this was never scaled to 1."""
_MOST_VALUES = 12 * 2**20
"""All channels together: what is decoded fits into the memory of a board."""

Resample = Callable[[NDArray[np.float32], int], NDArray[np.int16]]
"""A mono waveform and its rate in; the stored recording out."""


@dataclass(frozen=True)
class Recording:
    """What a file holds."""

    waveform: NDArray[np.float32]
    """[frames], the mean of the channels, within -1 to 1."""
    rate_hz: int

    @classmethod
    def of(cls, values: NDArray[np.float32], rate_hz: int) -> "Recording":
        """Average `values` [frames, channels] over the channels."""
        mono: NDArray[np.float32] = values.mean(axis=1, dtype=np.float32)
        return cls(mono, rate_hz)


@dataclass(frozen=True)
class Limits:
    """What is decoded at all."""

    max_seconds: float

    def require(self, frames: int, rate_hz: int, channels: int) -> None:
        """Raise `InputRefused` where a header promises nothing, or too much."""
        if not frames or not rate_hz:
            raise InputRefused("holds no sound; record it again.")
        if frames > self.max_seconds * rate_hz or frames * channels > _MOST_VALUES:
            raise InputRefused(
                f"is {frames / rate_hz:,.1f} s long in {channels} channel(s); at most {self.max_seconds:g} s and "
                f"{_MOST_VALUES:,} values are decoded (samples.max_seconds); cut it into single samples."
            )


def decode_recording(file: IO[bytes], form: SampleForm, resample: Resample, *, max_seconds: float) -> bytes:
    """Return the content of the sample in `file`. Raises `InputRefused` with the reason alone."""
    try:
        recording = _read(file, Limits(max_seconds))
    except MemoryError as error:
        raise InputRefused("does not fit into memory; cut it into single samples.") from error
    return stored_recording(recording.waveform, recording.rate_hz, form, resample)


def stored_recording(waveform: NDArray[np.float32], rate_hz: int, form: SampleForm, resample: Resample) -> bytes:
    """Return the content of a mono waveform [frames]. Raises `InputRefused` with the reason alone."""
    if not np.isfinite(waveform).all():
        raise InputRefused("holds values that are not finite (NaN or infinity); record it again.")
    peak = float(np.abs(waveform).max())
    if peak > LOUDEST:
        raise InputRefused(f"has values up to {peak:g}; a recording lies within -1 to 1.")
    stored = resample(waveform, rate_hz)
    return stored.astype(form.dtype).tobytes()


def _read(file: IO[bytes], limits: Limits) -> Recording:
    from mmd.samples import flac, wav

    magic = file.read(4)
    file.seek(0)
    if magic == wav.MAGIC:
        return wav.read_wav(file, limits)
    if magic == FLAC_MAGIC:
        return flac.read_flac(file, limits)
    raise InputRefused(f"is not a WAV or FLAC recording ({describe_start(magic)}).")
