"""How does a curve look in a terminal? Braille characters, of two by four dots each."""

import math
from collections.abc import Sequence
from itertools import pairwise

_BLANK = 0x2800
_LARGEST = 1e100
"""Beyond it sums of a few values would be infinite."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""By row and column within one character."""


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most `most` values: the means of equal stretches of `values`, those that are not finite left out."""
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
    if len(finite) <= most:
        return finite
    edges = [round(index * len(finite) / most) for index in range(most + 1)]
    return [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]


def braille(values: Sequence[float], *, width: int, height: int) -> list[str]:
    """Draw `values` from left to right as `height` lines of `width` characters; the lowest value is at the bottom."""
    points = thinned(values, 2 * width)
    cells = [[_BLANK] * width for _ in range(height)]
    low, high = (min(points), max(points)) if points else (0.0, 0.0)
    rows = 4 * height
    before: int | None = None
    for x, value in enumerate(points):
        share = (value - low) / (high - low) if high > low else 0.5
        y = round((1.0 - share) * (rows - 1))
        # A steep curve is a line, not dots in the air.
        first, last = (y, y) if before is None else (min(y, before + (y > before)), max(y, before - (y < before)))
        for dot in range(first, last + 1):
            cells[dot // 4][x // 2] |= _DOTS[dot % 4][x % 2]
        before = y
    return ["".join(map(chr, row)) for row in cells]
