"""How is an image moved a little, so that no epoch sees the same one twice? One affine map and one smooth warp each."""

import numpy as np
from numpy.typing import NDArray

from mmd_tools.nets import AugmentRecipe

Floats = NDArray[np.float32]
WARP_KNOTS = 5
"""The displacement is drawn on a grid of 5 x 5 and interpolated between."""


def augment(images: NDArray[np.generic], recipe: AugmentRecipe, rng: np.random.Generator) -> Floats:
    """Return float32 images [n, channels, height, width], moved as `recipe` allows; outside there is 0.

    Every channel of an image moves the same way. A recipe of zeros returns the images.
    """
    stored = images.astype(np.float32)
    if not any((recipe.shift_pixels, recipe.rotation_degrees, recipe.scale, recipe.shear, recipe.warp_pixels)):
        return stored
    count, _, height, width = stored.shape
    rows, columns = _affine(count, height, width, recipe, rng)
    if recipe.warp_pixels:
        rows_moved, columns_moved = _smooth_warp(count, height, width, recipe.warp_pixels, rng)
        rows, columns = rows + rows_moved, columns + columns_moved
    return _sample(stored, rows, columns)


def _affine(
    count: int, height: int, width: int, recipe: AugmentRecipe, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return where each pixel [count, height, width] is read from, in rows and columns from the top left."""
    angle = np.deg2rad(rng.uniform(-1, 1, count) * recipe.rotation_degrees)
    stretch_y, stretch_x = np.exp(rng.uniform(-1, 1, (2, count)) * recipe.scale)
    shear = rng.uniform(-1, 1, count) * recipe.shear
    shift_y, shift_x = (rng.uniform(-1, 1, (2, count)) * recipe.shift_pixels)[:, :, None, None]
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


def _sample(images: Floats, rows: Floats, columns: Floats) -> Floats:
    """Read each image [n, channels, height, width] at (rows, columns) [n, height, width], bilinearly."""
    count, channels, height, width = images.shape
    # A border of zeros: what is read from beyond it is clipped into it.
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
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
