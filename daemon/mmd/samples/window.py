"""How does a CSV file become one sample? A window of measurements: a line a step, a column a channel.

Taken are commas, semicolons or tabs between numbers with decimal points, and one line of names above them. A file is
one window of the set's own length: what a longer one should be cut into is the owner's to say.
"""

import csv
import io
import math
from typing import IO

import numpy as np

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm

_SEPARATORS = (";", "\t", ",")
_BYTES_A_NUMBER = 64
"""More than any number needs; a file that is larger all the same is not read."""
_ENOUGH_BYTES = 64 * 1024
_FLOAT32 = float(np.finfo(np.float32).max)


def decode_window(file: IO[bytes], form: SampleForm) -> bytes:
    """Return the content of the window in `file`. Raises `InputRefused` with the reason alone."""
    steps, channels = _steps_and_channels(form)
    limit = max(_ENOUGH_BYTES, steps * channels * _BYTES_A_NUMBER)
    read = file.read(limit + 1)
    if len(read) > limit:
        raise InputRefused(f"is larger than a window of {steps} lines can be; give one file a window.")
    try:
        text = read.decode("utf-8-sig")
        separator = next((mark for mark in _SEPARATORS if mark in text), ",")
        reader = csv.reader(io.StringIO(text), delimiter=separator)
        lines = [(number, cells) for number, cells in enumerate(reader, 1) if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputRefused(
            f"is no array and no CSV in UTF-8, and this artifact set takes {form.described}; give .npy, .npz or .csv."
        ) from error
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        del lines[0]
    if len(lines) != steps:
        raise InputRefused(f"has {len(lines)} lines of numbers; a window of this set has {steps}, one a step.")
    values = np.array([_line(cells, number, channels) for number, cells in lines], "<f4")
    # [steps, channels] as they lie in the file; [channels, 1, steps] in the store.
    return np.ascontiguousarray(values.T).tobytes()


def _steps_and_channels(form: SampleForm) -> tuple[int, int]:
    if len(form.shape) == 3 and form.shape[1] == 1:
        return form.shape[2], form.shape[0]
    if len(form.shape) == 1:
        return form.shape[0], 1
    raise InputRefused(f"is CSV, which holds windows, and this artifact set takes {form.described}; give .npy or .npz.")


def _line(cells: list[str], number: int, channels: int) -> list[float]:
    if len(cells) != channels:
        raise InputRefused(f"has {len(cells)} columns in line {number}; the set has {channels} channels.")
    return [_number(cell, number) for cell in cells]


def _number(cell: str, number: int) -> float:
    if not _is_number(cell):
        raise InputRefused(f"has {cell.strip()[:20]!r} in line {number}, which is no number.")
    value = float(cell)
    if not math.isfinite(value) or abs(value) > _FLOAT32:
        raise InputRefused(f"has {cell.strip()[:20]} in line {number}; remove or repair it.")
    return value


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
