"""Lowering rules: gradients of convolutions, in any number of spatial dimensions."""

from math import prod

import numpy as np
from onnx import NodeProto

from mmd.errors import ArtifactRefused
from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of
from mmd_tools.lowering.weight_gradients import weight_gradient
from mmd_tools.lowering.windows import Window, window_of


def conv_grad(e: Emitter, node: NodeProto) -> None:
    """Y = X * W + B: dX = transposed convolution of dY with W; dW = dY times the unfolded X; dB = sum of dY."""
    d_y, x, w = node.input[:3]
    attributes = attributes_of(node)
    kernel = e.sizes(w, start=2)
    window = window_of(attributes, kernel, e.sizes(x, start=2))
    groups = int(attributes.get("group", 1))
    d_x, d_w, d_b = (output_of(node, index) for index in range(3))
    if d_x:
        e.mark("inputs", d_x, tensors={"x": x, "d_y": d_y, "w": w}, groups=groups, **window.as_mark)
        _input_gradient(e, d_y, w, window, groups, to=d_x)
    if d_w:
        weight_gradient(e, d_y, x, w, window, groups, to=d_w)
    if d_b:
        e.reduce_sum(d_y, (0, *range(2, 2 + len(kernel))), keepdims=False, to=d_b)


def conv_transpose_grad(e: Emitter, node: NodeProto) -> None:
    """Y = transposed convolution of X with W: dX = dY * W; dW = X times the unfolded dY; dB = sum of dY."""
    d_y, x, w = node.input[:3]
    attributes = attributes_of(node)
    kernel = e.sizes(w, start=2)
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attributes.get("output_shape"):
        raise ArtifactRefused(f"{node.op_type} {node.name} uses auto_pad or output_shape; give explicit pads instead.")
    groups = int(attributes.get("group", 1))
    window = window_of({**attributes, "auto_pad": "NOTSET"}, kernel, e.sizes(d_y, start=2))
    d_x, d_w, d_b = (output_of(node, index) for index in range(3))
    if d_x:
        e.emit("Conv", d_y, w, to=d_x, group=groups, kernel_shape=kernel, strides=window.strides,
               dilations=window.dilations, pads=(*window.begins, *(window.ends)))  # fmt: skip
    if d_w:
        weight_gradient(e, x, d_y, w, window, groups, to=d_w)
    if d_b:
        e.reduce_sum(d_y, (0, *range(2, 2 + len(kernel))), keepdims=False, to=d_b)


def _input_gradient(e: Emitter, d_y: str, w: str, window: Window, groups: int, *, to: str) -> None:
    pads = [d * (k - 1) - b for d, k, b in zip(window.dilations, window.kernel, window.begins, strict=True)]
    ends = [d * (k - 1) - b for d, k, b in zip(window.dilations, window.kernel, window.ends, strict=True)]
    if any(stride != 1 for stride in window.strides) or min(*pads, *ends) < 0:
        e.emit("ConvTranspose", d_y, w, to=to, group=groups, **window.transposed)
        return
    flipped = _flip(e, w, groups)
    e.emit("Conv", d_y, flipped, to=to, group=groups, kernel_shape=window.kernel, dilations=window.dilations,
           pads=(*pads, *ends))  # fmt: skip


def _flip(e: Emitter, w: str, groups: int) -> str:
    """[M, C/g, *k] -> [C, M/g, *k] with the kernel turned by 180 degrees."""
    outputs, inputs, *kernel = e.sizes(w)
    taps = prod(kernel)
    turned = w
    if taps > 1:
        # A product with the exchange matrix: twice as quick as Gather, and exact.
        turned = e.emit("MatMul", e.reshape(w, -1, taps), e.constant(np.eye(taps)[::-1]))
    grouped = e.reshape(turned, groups, outputs // groups, inputs, taps)
    swapped = e.emit("Transpose", grouped, perm=(0, 2, 1, 3))
    return e.reshape(swapped, groups * inputs, outputs // groups, *kernel)
