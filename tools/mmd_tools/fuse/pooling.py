"""How is AveragePool trained? In a form whose gradient works everywhere.

onnxruntime-training 1.19.2 takes the size of AveragePoolGrad's result from the graph, where the batch is not known, and
makes an empty tensor. So the training graphs hold the same sums in other words; `mentee.onnx` keeps its AveragePool.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.losses import Nodes


@dataclass(frozen=True)
class Window:
    """An average over windows of a map, both spatial axes together."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    """Begins, then ends."""
    counts_pads: bool
    overhang: tuple[int, ...] = ()
    """How far the last window of each axis reaches beyond the pads, where any does; nothing there is ever counted."""


def average(
    nodes: Nodes, x: str, before: tuple[int, ...], after: tuple[int, ...], window: Window, *, out: str | None = None
) -> str:
    """Add the mean over windows of `x`, [N, *before] -> [N, *after]; return its name."""
    fits = all(size == count * kernel for size, count, kernel in zip(before[1:], after[1:], window.kernel, strict=True))
    if fits and window.strides == window.kernel:
        return _mean_of_blocks(nodes, x, after, window.kernel, out)
    channels, area = before[0], int(np.prod(window.kernel))
    ones = nodes.constant(np.full((channels, 1, *window.kernel), 1 / area))
    rank = len(window.kernel)
    ends = [pad + more for pad, more in zip(window.pads[rank:], window.overhang or [0] * rank, strict=True)]
    needs_counts = any(window.overhang) or (any(window.pads) and not window.counts_pads)
    mean = nodes.add(
        "Conv",
        [x, ones],
        out=None if needs_counts else out,
        group=channels,
        strides=list(window.strides),
        pads=[*window.pads[:rank], *ends],
    )
    if not needs_counts:
        return mean
    return nodes.add("Mul", [mean, nodes.constant(area / _counts(before[1:], after[1:], window))], out=out)


def _mean_of_blocks(nodes: Nodes, x: str, after: tuple[int, ...], kernel: tuple[int, ...], out: str | None) -> str:
    channels, *counts = after
    split = [size for pair in zip(counts, kernel, strict=True) for size in pair]
    # 0 copies the batch from the input.
    blocks = nodes.add("Reshape", [x, nodes.constant([0, channels, *split], np.int64)])
    axes = [3 + 2 * axis for axis in range(len(kernel))]
    return nodes.add("ReduceMean", [blocks], out=out, axes=axes, keepdims=0)


def _counts(before: tuple[int, ...], after: tuple[int, ...], window: Window) -> np.ndarray:
    """How many values each window counts, [1, 1, *after]: those of the map, or those of the padded map."""
    counts = np.ones((1, 1), np.float32)
    rank = len(window.kernel)
    for axis, (size, count) in enumerate(zip(before, after, strict=True)):
        starts = np.arange(count) * window.strides[axis] - window.pads[axis]
        low, high = (-window.pads[axis], size + window.pads[rank + axis]) if window.counts_pads else (0, size)
        held = np.minimum(starts + window.kernel[axis], high) - np.maximum(starts, low)
        counts = counts[..., None] * held.astype(np.float32)
    return counts


def window_of(node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]) -> Window:
    """Read the attributes of an AveragePool that makes a map of the size `after` of one of the size `before`."""
    kernel = _integers(edit.attribute(node, "kernel_shape", []))
    rank = len(kernel)
    strides = _integers(edit.attribute(node, "strides", [1] * rank))
    pads = _integers(edit.attribute(node, "pads", [0] * 2 * rank))
    mode = edit.attribute(node, "auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = _same_pads(before, after, kernel, strides, is_upper=mode == b"SAME_UPPER")
    elif mode == b"VALID":
        pads = (0,) * 2 * rank
    # Where the size is rounded up, the last windows hang over the padded map.
    ends = [(after[i] - 1) * strides[i] + kernel[i] - before[i] - pads[i] for i in range(rank)]
    overhang = tuple(max(0, ends[i] - pads[rank + i]) for i in range(rank))
    return Window(kernel, strides, pads, bool(edit.attribute(node, "count_include_pad", 0)), overhang)


def _same_pads(
    before: tuple[int, ...],
    after: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    *,
    is_upper: bool,
) -> tuple[int, ...]:
    sizes = zip(before, after, kernel, strides, strict=True)
    totals = [max((count - 1) * stride + reach - size, 0) for size, count, reach, stride in sizes]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*small, *large) if is_upper else (*large, *small)


def _integers(value: object) -> tuple[int, ...]:
    return tuple(int(entry) for entry in value) if isinstance(value, list | tuple) else ()
