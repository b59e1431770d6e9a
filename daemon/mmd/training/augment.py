"""How is a sample varied a little, so that no epoch sees the same one twice? Images move, signals shift and hiss."""

import numpy as np
from numpy.typing import NDArray

from mmd.augmentation import Augmentation

Floats = NDArray[np.float32]
WARP_KNOTS = 5
"""The displacement is drawn on a grid of 5 x 5 and interpolated between."""
_VIEW = 3
"""Tells this stream of random numbers from those of batches (0, 1) and of dropout (2)."""


def view_of(
    stored: NDArray[np.generic], identifier: str, number: int, how: Augmentation, seed: int
) -> NDArray[np.generic]:
    """Return view `number` of one sample [*shape], as stored: rounded and cut off where it holds whole numbers.

    View 0 is the sample itself. The others depend on the sample's id (hexadecimal), their number, `how` and `seed`
    alone, so that a round which is killed sees the same ones again.
    """
    if number == 0:
        return stored
    # Philox is counter-based: its stream for these seeds never depends on what was drawn before.
    seeds = np.random.SeedSequence([seed, _VIEW, number, int(identifier, 16)])
    varied = augment(stored[None], how, np.random.Generator(np.random.Philox(seeds)))[0]
    if stored.dtype.kind in "ui":
        limits = np.iinfo(stored.dtype.str)
        varied = np.clip(np.rint(varied), limits.min, limits.max)
    viewed: NDArray[np.generic] = varied.astype(stored.dtype)
    return viewed


def augment(stored: NDArray[np.generic], how: Augmentation, rng: np.random.Generator) -> Floats:
    """Return float32 samples [n, *shape], each varied on its own as `how` allows.

    Every channel of an image [channels, height, width] moves the same way. Amounts of 0 return the samples.
    """
    values = stored.astype(np.float32)
    if how.moves:
        values = _moved(values, how, rng)
    if how.contrast:
        factor, mean = np.exp(_drawn(values, rng) * np.float32(how.contrast)), _mean(values)
        values = mean + (values - mean) * factor
    if how.shift_steps:
        values = _shifted(values, how.shift_steps, rng)
    if how.gain_decibels:
        values = values * 10 ** (_drawn(values, rng) * np.float32(how.gain_decibels / 20))
    if how.noise:
        level = np.float32(how.noise) * np.sqrt(_mean(values**2))
        values = values + level * rng.standard_normal(values.shape, np.float32)
    return values


def _drawn(values: Floats, rng: np.random.Generator) -> Floats:
    """Draw one number in -1 to 1 a sample, [n, 1, ...]."""
    return rng.uniform(-1, 1, (len(values), *(1,) * (values.ndim - 1))).astype(np.float32)


def _mean(values: Floats) -> Floats:
    """Return the mean of each sample, [n, 1, ...]."""
    return np.asarray(values.mean(axis=tuple(range(1, values.ndim)), keepdims=True), np.float32)


def _shifted(values: Floats, most: float, rng: np.random.Generator) -> Floats:
    shifted, length = np.zeros_like(values), values.shape[-1]
    drawn = np.clip(np.rint(rng.uniform(-1, 1, len(values)) * most), -length, length)
    for sample, steps in enumerate(drawn.astype(int)):
        kept = slice(max(0, steps), length + min(0, steps))
        shifted[sample, ..., kept] = values[sample, ..., kept.start - steps : kept.stop - steps]
    return shifted


def _moved(images: Floats, how: Augmentation, rng: np.random.Generator) -> Floats:
    """Move images [n, channels, height, width]: one affine map and one smooth warp each."""
    count, _, height, width = images.shape
    rows, columns = _affine(count, height, width, how, rng)
    if how.warp_pixels:
        rows_moved, columns_moved = _smooth_warp(count, height, width, how.warp_pixels, rng)
        rows, columns = rows + rows_moved, columns + columns_moved
    return _sample(images, rows, columns, how.border)


def _affine(count: int, height: int, width: int, how: Augmentation, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return where each pixel [count, height, width] is read from, in rows and columns from the top left."""
    angle = np.deg2rad(rng.uniform(-1, 1, count) * how.rotation_degrees)
    stretch_y, stretch_x = np.exp(rng.uniform(-1, 1, (2, count)) * how.scale)
    shear = rng.uniform(-1, 1, count) * how.shear
    shift_y, shift_x = (rng.uniform(-1, 1, (2, count)) * how.shift_pixels)[:, :, None, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    yy, yx = cosine * stretch_y, -sine * stretch_x
    xy, xx = sine * stretch_y + shear * yy, cosine * stretch_x + shear * yx
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    down = (np.arange(height) - centre_y)[None, :, None]
    across = (np.arange(width) - centre_x)[None, None, :]
    rows = yy[:, None, None] * down + yx[:, None, None] * across + shift_y + centre_y
    columns = xy[:, None, None] * down + xx[:, None, None] * across + shift_x + centre_x
    return rows.astype(np.float32), columns.astype(np.float32)


def _smooth_warp(count: int, height: int, width: int, pixels: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    knots = rng.normal(0.0, pixels, (2, count, WARP_KNOTS, WARP_KNOTS)).astype(np.float32)
    moved = _interpolation(height) @ knots @ _interpolation(width).T
    return moved[0], moved[1]


def _interpolation(size: int) -> Floats:
    """Return the matrix [size, WARP_KNOTS] that interpolates linearly between the knots."""
    place = np.linspace(0, WARP_KNOTS - 1, size)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(WARP_KNOTS))).astype(np.float32)


def _sample(images: Floats, rows: Floats, columns: Floats, border: str) -> Floats:
    """Read each image [n, channels, height, width] at (rows, columns) [n, height, width], bilinearly."""
    count, channels, height, width = images.shape
    # A frame of one pixel: what is read from beyond it is clipped into it.
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge" if border == "edge" else "constant")
    rows = np.clip(rows + 1, 0, height + 0.999)
    columns = np.clip(columns + 1, 0, width + 0.999)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    below, right = (rows - top)[:, None], (columns - left)[:, None]
    flat = framed.reshape(count, channels, -1)
    at = (top * (width + 2) + left).reshape(count, 1, -1)

    def corner(offset: int) -> Floats:
        values = np.take_along_axis(flat, at + offset, axis=2)
        return values.reshape(count, channels, height, width)

    upper = corner(0) * (1 - right) + corner(1) * right
    lower = corner(width + 2) * (1 - right) + corner(width + 3) * right
    moved: Floats = (upper * (1 - below) + lower * below).astype(np.float32)
    return moved
