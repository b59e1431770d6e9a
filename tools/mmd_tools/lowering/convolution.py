"""Lowering rules: gradients of convolutions, in any number of spatial dimensions."""

import itertools
from dataclasses import dataclass
from math import prod
from typing import Any

from onnx import NodeProto

from mmd.errors import ArtifactRefused
from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """How a kernel slides: one entry a spatial dimension."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begins: Sizes
    """Padding before; what is missing after follows from `inputs` and `outputs`."""
    inputs: Sizes
    outputs: Sizes

    @property
    def reach(self) -> Sizes:
        """How much of the padded input the windows touch."""
        return tuple(
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(self.outputs, self.strides, self.dilations, self.kernel, strict=True)
        )

    @property
    def ends(self) -> Sizes:
        """Padding after that the windows touch; negative where the last rows of the input are never read."""
        return tuple(r - b - i for r, b, i in zip(self.reach, self.begins, self.inputs, strict=True))

    @property
    def transposed(self) -> dict[str, Any]:
        """Attributes of the ConvTranspose that spreads outputs back over the inputs."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begins, *(max(0, end) for end in self.ends)),
            "output_padding": [max(0, -end) for end in self.ends],
        }


def window_of(attributes: dict[str, Any], kernel: Sizes, inputs: Sizes) -> Window:
    """Resolve strides, dilations, `auto_pad` and the output size of a convolution or pooling."""
    rank = len(kernel)
    strides = tuple(attributes.get("strides") or (1,) * rank)
    dilations = tuple(attributes.get("dilations") or (1,) * rank)
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
    auto_pad = attributes.get("auto_pad", "NOTSET")
    begins, outputs = [], []
    for axis in range(rank):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            output = -(-inputs[axis] // strides[axis])
            total = max(0, (output - 1) * strides[axis] + span - inputs[axis])
            begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
        else:
            begin, end = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[rank + axis])
            room = inputs[axis] + begin + end - span
            output = (-(-room // strides[axis]) if attributes.get("ceil_mode") else room // strides[axis]) + 1
            # A window that would start in the padding after the input is left out.
            if attributes.get("ceil_mode") and (output - 1) * strides[axis] >= inputs[axis] + begin:
                output -= 1
        begins.append(begin)
        outputs.append(output)
    return Window(kernel, strides, dilations, tuple(begins), inputs, tuple(outputs))


def conv_grad(e: Emitter, node: NodeProto) -> None:
    """Y = X * W + B: dX = transposed convolution of dY with W; dW = dY times the unfolded X; dB = sum of dY."""
    d_y, x, w = node.input[:3]
    attributes = attributes_of(node)
    kernel = e.sizes(w, start=2)
    window = window_of(attributes, kernel, e.sizes(x, start=2))
    groups = int(attributes.get("group", 1))
    d_x, d_w, d_b = (output_of(node, index) for index in range(3))
    if d_x:
        _input_gradient(e, d_y, w, window, groups, to=d_x)
    if d_w:
        _weight_gradient(e, d_y, x, w, window, groups, to=d_w)
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
        _weight_gradient(e, x, d_y, w, window, groups, to=d_w)
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
    grouped = e.reshape(w, groups, outputs // groups, inputs, taps)
    turned = e.emit("Gather", grouped, e.integers(*reversed(range(taps))), axis=3) if taps > 1 else grouped
    swapped = e.emit("Transpose", turned, perm=(0, 2, 1, 3))
    return e.reshape(swapped, groups * inputs, outputs // groups, *kernel)


def _weight_gradient(e: Emitter, d_y: str, x: str, w: str, window: Window, groups: int, *, to: str) -> None:
    """dW[m, c, k] = sum over n and positions o of dY[n, m, o] * X[n, c, o * stride + k * dilation - pad]."""
    outputs, channels, *_ = e.sizes(w)
    positions, taps = prod(window.outputs), prod(window.kernel)
    columns = e.reshape(unfold(e, x, window), 0, groups, channels * taps, positions)
    rows = e.reshape(d_y, 0, groups, outputs // groups, positions)
    per_sample = e.emit("MatMul", rows, e.emit("Transpose", columns, perm=(0, 1, 3, 2)))
    e.reshape(e.reduce_sum(per_sample, (0,), keepdims=False), outputs, channels, *window.kernel, to=to)


def unfold(e: Emitter, x: str, window: Window) -> str:
    """[n, C, *inputs] -> [n, C, taps, positions]: what each tap of the kernel sees (im2col)."""
    channels = e.sizes(x, start=1)[0]
    rank, positions = len(window.kernel), prod(window.outputs)
    if any((*window.begins, *window.ends)):
        x = e.emit("Pad", x, e.integers(0, 0, *window.begins, 0, 0, *window.ends))
    axes, steps = e.integers(*range(2, 2 + rank)), e.integers(*window.strides)
    seen = []
    for tap in itertools.product(*(range(k) for k in window.kernel)):
        starts = [t * d for t, d in zip(tap, window.dilations, strict=True)]
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, window.outputs, window.strides, strict=True)]
        part = e.emit("Slice", x, e.integers(*starts), e.integers(*stops), axes, steps)
        seen.append(e.reshape(part, 0, channels, 1, positions))
    return e.emit("Concat", *seen, axis=2) if len(seen) > 1 else seen[0]
