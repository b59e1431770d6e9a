"""Lowering rules: gradients of pooling."""

import itertools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from mmd_tools.lowering.convolution import Window, window_of
from mmd_tools.lowering.emitter import Emitter, attributes_of


def max_pool_grad(e: Emitter, node: NodeProto) -> None:
    """Y = max over windows, with the flat index of each maximum: dX[index] += dY (windows may overlap)."""
    d_y, indices = node.input[:2]
    pool = e.producers[indices]
    x = pool.input[0]
    e.mark("max_pool", node.output[0], tensors={"x": x, "y": pool.output[0], "d_y": d_y},
           kernel=attributes_of(pool)["kernel_shape"])  # fmt: skip
    zeros = e.emit("ConstantOfShape", e.emit("Unsqueeze", e.emit("Size", x), e.integers(0)))
    flat = e.emit("ScatterElements", zeros, e.reshape(indices, -1), e.reshape(d_y, -1), axis=0, reduction="add")
    e.emit("Reshape", flat, e.emit("Shape", x), to=node.output[0])


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
