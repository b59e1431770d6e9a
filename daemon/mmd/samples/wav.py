"""What is in a WAV file? Its header is judged before a sample is read, and every promised byte must be there.

The format: RIFF chunks, of which `fmt ` says how `data` is to be read (IBM and Microsoft, "Multimedia Programming
Interface and Data Specifications 1.0", 1991; WAVEFORMATEXTENSIBLE, learn.microsoft.com). Whole numbers of 8, 16, 24
and 32 bits and floats of 32 and 64 are read; everything else is refused by name.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd.samples.recording import Limits, Recording

MAGIC = b"RIFF"
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHER_CODINGS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}
_MOST_CHANNELS = 32
_MOST_CHUNKS = 1000


@dataclass(frozen=True)
class _Format:
    coding: int
    channels: int
    rate_hz: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_wav(file: IO[bytes], limits: Limits) -> Recording:
    """Return the recording in `file`, which begins with `MAGIC`. Raises `InputRefused` with the reason alone."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(12)[8:] != b"WAVE":
        raise InputRefused("is a RIFF file without sound; export it as WAV.")
    found: _Format | None = None
    for name, start, length in _chunks(file, size):
        if name == b"fmt ":
            found = _read_format(file.read(min(length, 40)))
        if name == b"data":
            if found is None:
                raise InputRefused("is damaged (its format is missing); export it again.")
            if start + length > size:
                raise InputRefused(f"is truncated ({start + length - size:,} bytes are missing); export it again.")
            return _read_data(file, length, found, limits)
    raise InputRefused("is truncated (it ends before its sound); export it again.")


def _chunks(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and length of each chunk, with the file at its start."""
    place = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = struct.unpack("<4sI", header)
        yield name, place + 8, length
        # Chunks begin at even places.
        place += 8 + length + length % 2
        if place > size:
            return


def _read_format(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise InputRefused("is damaged (its format is cut short); export it again.")
    coding, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if coding == _EXTENSIBLE and len(chunk) == 40:
        # The format proper begins the name of the subformat.
        coding = struct.unpack("<H", chunk[24:26])[0]
    read = _Format(coding, channels, rate_hz, bits)
    if (coding, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        named = _OTHER_CODINGS.get(coding, f"coding {coding:#06x}")
        told = f"{bits}-bit {'whole numbers' if coding == _PCM else 'floats'}" if coding in (_PCM, _FLOAT) else named
        raise InputRefused(f"holds {told}; export it as 16-bit PCM.")
    if not 1 <= channels <= _MOST_CHANNELS or frame_bytes != read.frame_bytes:
        raise InputRefused(f"is damaged ({channels} channels in {frame_bytes} bytes); export it again.")
    return read


def _read_data(file: IO[bytes], length: int, found: _Format, limits: Limits) -> Recording:
    if length % found.frame_bytes:
        raise InputRefused(f"is damaged ({length:,} bytes are no whole number of frames); export it again.")
    limits.require(length // found.frame_bytes, found.rate_hz, found.channels)
    values = _numbers(file.read(length), found).reshape(-1, found.channels)
    return Recording.of(values, found.rate_hz)


def _numbers(data: bytes, found: _Format) -> NDArray[np.float32]:
    """Return the values within -1 to 1."""
    if found.coding == _FLOAT:
        return np.frombuffer(data, f"<f{found.bits // 8}").astype(np.float32)
    bits = found.bits
    whole: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(-1, bits // 8)
    if bits == 8:
        whole = whole ^ np.uint8(0x80)  # the only ones without a sign
    if bits == 24:
        # As the upper three bytes of 32 bits.
        bits, whole = 32, np.pad(whole, ((0, 0), (1, 0)))
    scaled: NDArray[np.float64] = np.ascontiguousarray(whole).view(f"<i{bits // 8}").ravel() / 2.0 ** (bits - 1)
    return scaled.astype(np.float32)
