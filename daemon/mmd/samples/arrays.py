"""How does a .npy or .npz file become samples?

Rows are read in blocks, so that a big file needs little memory, and the whole file is judged before its first row is
given out: one bad row refuses the file. Pickled objects are never loaded. A `.npz` holds `inputs` (or `x`) and may
hold `labels` (or `y`): class names, or class numbers with -1 for none.

Accepted for a tensor of C x 1 x T, a window of measurements, are that, C x T and T x C; others are taken in their own
shape alone.

Accepted for audio are stored recordings, [length] or [n, length], as 16-bit whole numbers or floats within -1 to 1.
A `.npz` may say at which `rate_hz` its rows were taken; where the set has another, it is refused.

Accepted for an image of C x H x W: that, H x W x C, and H x W when C is 1, alone or as a batch. Whole numbers are 0 to
255; floats that all lie in 0 to 1 are scaled by 255, others are taken as 0 to 255.
"""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm, describe_shape

_BLOCK_BYTES = 4 * 2**20
_MAX_WHOLE_BYTES = 256 * 2**20
"""A column-major array cannot be read by rows; a bigger one is refused."""
_MAX_ROWS = 10_000_000
_INPUT_NAMES = ("inputs", "x")
_LABEL_NAMES = ("labels", "y")
_RATE_NAMES = ("rate_hz",)
_PIXELS, _SOUND = (0, 255), (-32768, 32767)
_ZIP_MAGIC = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    KeyError,
    RuntimeError,
)
"""What numpy and zipfile raise for a damaged file."""


def is_array(start: bytes) -> bool:
    """Return whether a file that begins with `start` is a `.npy` or a `.npz`, whatever it is called."""
    return start.startswith(npy.MAGIC_PREFIX) or is_archive(start)


def is_archive(start: bytes) -> bool:
    return start.startswith(_ZIP_MAGIC)


@dataclass(frozen=True)
class Row:
    """One sample of an array file."""

    content: bytes
    label: str | None
    index: int | None
    """Its row in the file; `None` when the file holds one sample without a batch."""


class ArrayFile:
    """A judged `.npy` or `.npz` file; iterate it for its rows. Raises `InputRefused` with the reason alone."""

    def __init__(self, file: IO[bytes], form: SampleForm, *, is_archive: bool, max_bytes: float = math.inf) -> None:
        self._file = file
        self._form = form
        self._is_archive = is_archive
        with self._damage_named():
            self._labels = self._read_labels()
            self._require_rate()
            self._layout, self._count = self._read_layout()
            if self._labels is not None and len(self._labels) != (self._count or 1):
                raise InputRefused(f"has {self._count or 1} inputs and {len(self._labels)} labels; they must pair up.")
            if (self._count or 1) * form.content_bytes > max_bytes:
                raise InputRefused(
                    f"holds {(self._count or 1) * form.content_bytes / 2**20:,.1f} MiB of samples, "
                    f"and at most {max_bytes / 2**20:,.1f} MiB are taken at once (samples.quota_mib; "
                    "of a request serve.max_request_mib); split the file."
                )
            self._scale = self._judge()

    def __len__(self) -> int:
        return 1 if self._count is None else self._count

    def __iter__(self) -> Iterator[Row]:
        with self._damage_named():
            start = 0
            for block in self._blocks():
                contents = self._canonical(block)
                for offset, content in enumerate(contents, start):
                    label = None if self._labels is None else self._labels[offset]
                    yield Row(content.tobytes(), label, None if self._count is None else offset)
                start += len(contents)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise InputRefused("does not fit into memory; split the file.") from error
        except _DAMAGE as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise InputRefused(f"is damaged or truncated ({reason}); save it again.") from error

    def _read_layout(self) -> tuple[str, int | None]:
        """Return how one sample lies in the file, and the number of rows (`None`: one sample, no batch)."""
        with self._member(_INPUT_NAMES) as stream:
            shape, _, dtype = _header(stream)
        if dtype.hasobject:
            raise InputRefused("holds Python objects, which are never loaded; save numbers (uint8 or float).")
        if dtype.kind not in "uif":
            raise InputRefused(f"holds values of type {dtype}; expected uint8 or float.")
        for layout, wanted in _layouts(self._form).items():
            if shape == wanted:
                return layout, None
            if len(shape) == len(wanted) + 1 and shape[1:] == wanted:
                if not 0 < shape[0] <= _MAX_ROWS:
                    raise InputRefused(f"holds {shape[0]} samples; expected 1 to {_MAX_ROWS:,}.")
                return layout, shape[0]
        expected = describe_shape(self._form.shape)
        raise InputRefused(f"has shape {describe_shape(shape)}; expected {expected}, or a batch Nx{expected}.")

    def _judge(self) -> float:
        """Read every value once; return what values are multiplied with."""
        low, high, start = math.inf, -math.inf, 0
        is_float = False
        for block in self._blocks():
            flat = block.reshape(len(block), -1)
            is_float = block.dtype.kind == "f"
            if is_float and not np.isfinite(flat).all():
                self._refuse_not_finite(flat, start)
            if flat.size:
                low, high = min(low, float(flat.min())), max(high, float(flat.max()))
            start += len(block)
        if self._form.kind == "tensor":
            limit = float(np.finfo(np.float32).max)
            if low < -limit or high > limit:
                raise InputRefused(f"has values up to {max(-low, high):g}; float32 ends at {limit:g}.")
            return 1.0
        if self._form.kind == "audio":
            limits, expected = ((-1, 1) if is_float else _SOUND), "-32768 to 32767, or -1 to 1 as floats"
        else:
            limits, expected = _PIXELS, "0 to 255, or 0 to 1 as floats"
        if low < limits[0] or high > limits[1]:
            raise InputRefused(f"has values from {low:g} to {high:g}; expected {expected}.")
        if self._form.kind == "audio":
            return 32768.0 if is_float else 1.0
        return 255.0 if is_float and high <= 1 else 1.0

    def _refuse_not_finite(self, flat: NDArray[np.generic], start: int) -> None:
        bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        kind = "NaN" if np.isnan(flat[bad[0]]).any() else "an infinite value"
        place = "" if self._count is None else f" in row {start + int(bad[0])}"
        raise InputRefused(f"has {kind}{place}; remove or repair it.")

    def _canonical(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn rows as they lie in the file into contents [n, *shape]."""
        rows = np.moveaxis(block, -1, 1) if self._layout == "channels last" else block
        rows = rows.reshape(len(block), *self._form.shape)
        if self._form.kind == "tensor":
            return np.ascontiguousarray(rows, dtype="<f4")
        limits = _SOUND if self._form.kind == "audio" else _PIXELS
        scaled = np.clip(np.rint(rows.astype(np.float64) * self._scale), *limits)
        return np.ascontiguousarray(scaled.astype(self._form.dtype))

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the rows in the file's own type and layout, some at a time."""
        with self._member(_INPUT_NAMES) as stream:
            shape, column_major, dtype = _header(stream)
            rows, sample = (1, shape) if self._count is None else (shape[0], shape[1:])
            row_bytes = math.prod(sample) * dtype.itemsize
            if column_major and math.prod(shape) != max(shape, default=1):
                if rows * row_bytes > _MAX_WHOLE_BYTES:
                    raise InputRefused("is stored column by column and too big for that; save it in C order.")
                whole = _read(stream, rows * row_bytes, dtype).reshape(shape[::-1]).T
                yield whole.reshape(rows, *sample)
                return
            at_once = max(1, _BLOCK_BYTES // max(1, row_bytes))
            for start in range(0, rows, at_once):
                count = min(at_once, rows - start)
                yield _read(stream, count * row_bytes, dtype).reshape(count, *sample)

    def _holds_any(self, names: tuple[str, ...]) -> bool:
        if not self._is_archive:
            return False
        with zipfile.ZipFile(self._rewound()) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
        return any(name in held for name in names)

    def _require_rate(self) -> None:
        if not self._form.rate_hz or not self._holds_any(_RATE_NAMES):
            return
        with self._member(_RATE_NAMES) as stream:
            shape, _, dtype = _header(stream)
            if dtype.kind not in "uif" or math.prod(shape) != 1:
                raise InputRefused(
                    f"has a rate of type {dtype} and shape {describe_shape(shape)}; expected one number."
                )
            rate_hz = float(_read(stream, dtype.itemsize, dtype).item())
        if rate_hz != self._form.rate_hz:
            raise InputRefused(f"was taken at {rate_hz:g} Hz; the artifact set takes {self._form.rate_hz:g} Hz.")

    def _read_labels(self) -> list[str | None] | None:
        """Return one label a row, each known to the set; `None` when the file has none."""
        if not self._holds_any(_LABEL_NAMES):
            return None
        with self._member(_LABEL_NAMES) as stream:
            shape, _, dtype = _header(stream)
            if dtype.kind not in "uiU" or len(shape) > 1 or math.prod(shape) * dtype.itemsize > _MAX_WHOLE_BYTES:
                raise InputRefused(
                    f"has labels of type {dtype} and shape {describe_shape(shape)}; "
                    "expected one class number or class name a row."
                )
            values = _read(stream, math.prod(shape) * dtype.itemsize, dtype).tolist()
        return [self._label(value, row) for row, value in enumerate(values)]

    def _label(self, value: int | str, row: int) -> str | None:
        if value in (-1, ""):
            return None
        try:
            if isinstance(value, str):
                return self._form.require_class(value)
            if 0 <= value < len(self._form.classes):
                return self._form.classes[value]
            raise InputRefused(
                f"{value} is no class number; the set has 0 to {len(self._form.classes) - 1}, -1 = none."
            )
        except InputRefused as refusal:
            raise InputRefused(f"row {row}: {refusal}") from None

    def _rewound(self) -> IO[bytes]:
        self._file.seek(0)
        return self._file

    @contextmanager
    def _member(self, names: tuple[str, ...]) -> Iterator[IO[bytes]]:
        """Open the file itself, or the first member of the archive that has one of `names`."""
        if not self._is_archive:
            yield self._rewound()
            return
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self._rewound()))
            present = [f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()]
            if not present:
                held = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8]) or "nothing"
                raise InputRefused(f"holds {held}; expected an array named {' or '.join(names)}.")
            if archive.getinfo(present[0]).compress_type not in _COMPRESSIONS:
                raise InputRefused("is compressed in a way that numpy never writes; save it with np.savez_compressed.")
            yield stack.enter_context(archive.open(present[0]))


def _layouts(form: SampleForm) -> dict[str, tuple[int, ...]]:
    """Return the shapes that one sample may have in a file, the set's own first."""
    layouts = {"as the set": form.shape}
    if form.kind == "image" and len(form.shape) == 3:
        channels, height, width = form.shape
        layouts["channels last"] = (height, width, channels)
        if channels == 1:
            layouts["no channel"] = (height, width)
    if form.kind == "tensor" and len(form.shape) == 3 and form.shape[1] == 1:
        channels, _, steps = form.shape
        layouts["channels first"], layouts["channels last"] = (channels, steps), (steps, channels)
    return layouts


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise InputRefused(f"is written in .npy version {version[0]}.{version[1]}, which is not read; save plain numbers.")


def _read(stream: IO[bytes], size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read exactly `size` bytes in bounded pieces: a header may promise more than the file has."""
    data = bytearray()
    while len(data) < size:
        piece = stream.read(min(size - len(data), _BLOCK_BYTES))
        if not piece:
            raise EOFError(f"{size - len(data):,} bytes are missing")
        data += piece
    return np.frombuffer(bytes(data), dtype)
