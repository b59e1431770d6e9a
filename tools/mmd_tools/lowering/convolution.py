"""Lowering rules: gradients of convolutions, in any number of spatial dimensions."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from onnx import NodeProto

from mmd.errors import ArtifactRefused
from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of

Sizes = tuple[int, ...]

_FEWEST_SHIFTED_CHANNELS = 6
"""With fewer, a product a tap is too thin to pay; measured, see docs/performance.md."""


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
    def as_mark(self) -> dict[str, Any]:
        """What a board needs to know to find its own way to the gradients."""
        return {
            "kernel": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begins, *self.ends),
        }

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
        e.mark("inputs", d_x, tensors={"x": x, "d_y": d_y, "w": w}, groups=groups, **window.as_mark)
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
    channels = e.sizes(w)[1]
    is_dense = groups == 1 and set(window.strides) == {1} and channels >= _FEWEST_SHIFTED_CHANNELS
    e.mark("weights", to, tensors={"x": x, "d_y": d_y}, groups=groups, **window.as_mark)
    write = _weight_gradient_by_shifts if is_dense else _weight_gradient_by_columns
    write(e, d_y, x, w, window, groups, to=to)


def _weight_gradient_by_columns(e: Emitter, d_y: str, x: str, w: str, window: Window, groups: int, *, to: str) -> None:
    """One product with what all taps see side by side; any stride and groups."""
    outputs, channels, *_ = e.sizes(w)
    positions, taps = prod(window.outputs), prod(window.kernel)
    columns = e.reshape(unfold(e, x, window), 0, groups, channels * taps, positions)
    rows = e.reshape(d_y, 0, groups, outputs // groups, positions)
    per_sample = e.emit("MatMul", rows, e.emit("Transpose", columns, perm=(0, 1, 3, 2)))
    e.reshape(e.reduce_sum(per_sample, (0,), keepdims=False), outputs, channels, *window.kernel, to=to)


def _weight_gradient_by_shifts(e: Emitter, d_y: str, x: str, w: str, window: Window, groups: int, *, to: str) -> None:
    """One product a tap, each with a contiguous piece of the flat padded X: half the memory traffic of columns.

    dY gets rows as long as the padded X's, filled with zeros, so that position o of dY meets place o + shift of X;
    what a row's zeros meet does not matter.
    """
    outputs, channels, *_ = e.sizes(w)
    rank, reach = len(window.kernel), window.reach
    # A last shift may look past the end by less than one row.
    ends = (window.ends[0] + (1 if rank > 1 else 0), *window.ends[1:])
    flat_x = e.reshape(_pad(e, x, window.begins, ends), 0, channels, -1)
    widened = [0, *(r - o for r, o in zip(reach[1:], window.outputs[1:], strict=True))]
    flat_y = e.reshape(_pad(e, d_y, (0,) * rank, widened), 0, outputs, -1)
    pitches = [prod(reach[axis + 1 :]) for axis in range(rank)]
    length = window.outputs[0] * pitches[0]
    products = []
    for tap in itertools.product(*(range(k) for k in window.kernel)):
        shift = sum(t * d * pitch for t, d, pitch in zip(tap, window.dilations, pitches, strict=True))
        seen = e.emit("Slice", flat_x, e.integers(shift), e.integers(shift + length), e.integers(2))
        products.append(e.emit("MatMul", flat_y, e.emit("Transpose", seen, perm=(0, 2, 1))))
    side_by_side = e.emit("Concat", *products, axis=2) if len(products) > 1 else products[0]
    summed = e.reshape(e.reduce_sum(side_by_side, (0,), keepdims=False), outputs, len(products), channels)
    e.reshape(e.emit("Transpose", summed, perm=(0, 2, 1)), outputs, channels, *window.kernel, to=to)


def _pad(e: Emitter, tensor: str, begins: Sequence[int], ends: Sequence[int]) -> str:
    """Pad (or, where negative, crop) the spatial axes."""
    if not any((*begins, *ends)):
        return tensor
    return e.emit("Pad", tensor, e.integers(0, 0, *begins, 0, 0, *ends))


def unfold(e: Emitter, x: str, window: Window) -> str:
    """[n, C, *inputs] -> [n, C, taps, positions]: what each tap of the kernel sees (im2col)."""
    channels = e.sizes(x, start=1)[0]
    rank, positions = len(window.kernel), prod(window.outputs)
    x = _pad(e, x, window.begins, window.ends)
    axes, steps = e.integers(*range(2, 2 + rank)), e.integers(*window.strides)
    seen = []
    for tap in itertools.product(*(range(k) for k in window.kernel)):
        starts = [t * d for t, d in zip(tap, window.dilations, strict=True)]
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, window.outputs, window.strides, strict=True)]
        part = e.emit("Slice", x, e.integers(*starts), e.integers(*stops), axes, steps)
        seen.append(e.reshape(part, 0, channels, 1, positions))
    return e.emit("Concat", *seen, axis=2) if len(seen) > 1 else seen[0]
