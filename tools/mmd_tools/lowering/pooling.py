"""Lowering rules: gradients of pooling."""

import itertools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of
from mmd_tools.lowering.windows import Window, pad, window_of

_MOST_TILED_AXES = 2
"""Images and sequences."""


def max_pool_grad(e: Emitter, node: NodeProto) -> None:
    """Y = max over windows: dX is dY at the first place of each window that holds its maximum, and 0 elsewhere."""
    d_y, indices = node.input[:2]
    pool = e.producers[indices]
    x, y = pool.input[0], pool.output[0]
    attributes = attributes_of(pool)
    kernel = tuple(attributes["kernel_shape"])
    e.mark("max_pool", node.output[0], tensors={"x": x, "y": y, "d_y": d_y}, kernel=kernel)
    window = window_of(attributes, kernel, e.sizes(x, start=2))
    is_tiling = (
        len(kernel) <= _MOST_TILED_AXES
        and window.strides == kernel
        and set(window.dilations) == {1}
        and not any(window.begins)
        and max(window.ends) <= 0
    )
    if is_tiling:
        _of_tiles(e, d_y, x, y, window, to=node.output[0])
    else:
        _by_indices(e, d_y, x, indices, to=node.output[0])


def _by_indices(e: Emitter, d_y: str, x: str, indices: str, *, to: str) -> None:
    """Add each dY at the flat index that its maximum has; windows may overlap."""
    zeros = e.emit("ConstantOfShape", e.emit("Unsqueeze", e.emit("Size", x), e.integers(0)))
    flat = e.emit("ScatterElements", zeros, e.reshape(indices, -1), e.reshape(d_y, -1), axis=0, reduction="add")
    e.emit("Reshape", flat, e.emit("Shape", x), to=to)


def _of_tiles(e: Emitter, d_y: str, x: str, y: str, window: Window, *, to: str) -> None:
    """Compare instead of looking up, first the rows of a window, then the places of a row.

    Needs no indices, which take 8 bytes each from the forward to the backward half. The order is that of
    onnxruntime's indices: of equal values the first place of the first row counts.
    """
    channels = e.sizes(x, start=1)[0]
    # A sequence is an image one row high.
    high, wide = (1, *window.kernel)[-2:]
    rows, columns = (1, *window.outputs)[-2:]
    crop = [o * k - i for o, k, i in zip(window.outputs, window.kernel, window.inputs, strict=True)]
    image = pad(e, x, (0,) * len(crop), crop)
    # [places of a row, lines, columns]: planes whose values meet in a window
    planes = e.emit("Transpose", e.reshape(image, -1, wide), perm=(1, 0))
    across = _parts(e, planes, wide, axis=0)
    widest = e.emit("Max", *across) if wide > 1 else planes
    lines = e.reshape(widest, -1, high, columns)
    gradient = e.reshape(d_y, -1, 1, columns)
    gradient = _routed(e, gradient, _parts(e, lines, high, axis=1), e.reshape(y, -1, 1, columns), axis=1)
    gradient = _routed(e, e.reshape(gradient, 1, -1), across, widest, axis=0)
    shape = (-1, channels, *((rows * high,) if len(crop) > 1 else ()), columns * wide)
    whole = e.reshape(e.emit("Transpose", gradient, perm=(1, 0)), *shape, to=None if any(crop) else to)
    if any(crop):
        e.emit("Pad", whole, e.integers(*[0] * (2 + len(crop)), 0, 0, *(-side for side in crop)), to=to)


def _parts(e: Emitter, tensor: str, count: int, *, axis: int) -> list[str]:
    if count == 1:
        return [tensor]
    names = [e.fresh("Split") for _ in range(count)]
    return e.emit_many("Split", [tensor, e.integers(*[1] * count)], names, axis=axis)


def _routed(e: Emitter, gradient: str, parts: list[str], largest: str, *, axis: int) -> str:
    """Give the gradient to the first part that is the largest."""
    routed = []
    for part in parts[:-1]:
        routed.append(e.emit("Mul", gradient, e.cast(e.emit("Equal", part, largest))))
        gradient = e.emit("Sub", gradient, routed[-1])
    return e.emit("Concat", *routed, gradient, axis=axis) if routed else gradient


def average_pool_grad(e: Emitter, node: NodeProto) -> None:
    """Y = mean over windows: dX = each dY divided by its window's count, spread over that window."""
    d_y, d_x = node.input[0], node.output[0]
    attributes = attributes_of(node)
    channels, *inputs = e.sizes(d_x, start=1)
    window = window_of(attributes, tuple(attributes["kernel_shape"]), tuple(inputs))
    counts = _window_counts(window, attributes)
    shared = e.emit("Div", d_y, e.constant(counts))
    # One channel a picture: the same ones kernel spreads all of them.
    pictures = e.reshape(shared, -1, 1, *window.outputs)
    ones = e.constant(np.ones((1, 1, *window.kernel)))
    spread = e.emit("ConvTranspose", pictures, ones, **window.transposed)
    e.reshape(spread, -1, channels, *inputs, to=d_x)


def _window_counts(window: Window, attributes: dict[str, Any]) -> NDArray[np.float32]:
    """How many values each window averages; padding counts only when `count_include_pad` says so."""
    if attributes.get("count_include_pad"):
        pads = tuple(attributes.get("pads") or (0,) * (2 * len(window.kernel)))
        ends = pads[len(window.kernel) :]
        limits = [(-b, i + end) for b, i, end in zip(window.begins, window.inputs, ends, strict=True)]
    else:
        limits = [(0, i) for i in window.inputs]
    counts = np.zeros(window.outputs, np.float32)
    for output in itertools.product(*(range(o) for o in window.outputs)):
        counts[output] = prod(
            sum(low <= o * s - b + t * d < high for t in range(k))
            for o, s, b, d, k, (low, high) in zip(
                output, window.strides, window.begins, window.dilations, window.kernel, limits, strict=True
            )
        )
    return counts
