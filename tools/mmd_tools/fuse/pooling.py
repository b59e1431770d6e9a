"""How are AveragePool, LayerNormalization and Dropout trained? In a form whose gradient works everywhere.

onnxruntime-training 1.19.2 takes the size of AveragePoolGrad's result from the graph, where the batch is not known, and
makes an empty tensor. So the training graphs hold the same sums in other words; `mentee.onnx` keeps its AveragePool.
LayerNormalization's gradient reads the mean and the deviation, which are outputs of the node that inference leaves out.
Dropout is a product with a mask that is an input: every engine drops the same values, and a micro-batch its own rows.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.rewrite import Unfit


@dataclass(frozen=True)
class Window:
    """An average over windows of a map, both spatial axes together."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    """Begins, then ends."""
    counts_pads: bool


def trained_form(mentee: Network, nodes: Nodes) -> list[onnx.NodeProto]:
    """Return the Mentee's nodes in the form that can be trained; constants go to `nodes`."""
    kept: list[onnx.NodeProto] = []
    masks = iter(mentee.dropouts)
    for node in mentee.model.graph.node:
        if node.op_type == "Dropout":
            kept.append(onnx.helper.make_node("Mul", [node.input[0], next(masks).name], node.output, name=node.name))
            continue
        if node.op_type == "LayerNormalization":
            kept.append(_with_statistics(node))
            continue
        if node.op_type != "AveragePool":
            kept.append(node)
            continue
        own = Nodes(f"{node.name}/")
        before = mentee.input_shape if node.input[0] == mentee.input else mentee.shapes[node.input[0]]
        after = mentee.shapes[node.output[0]]
        average(own, node.input[0], before, after, _window(node, before[1:], after[1:]), out=node.output[0])
        kept.extend(own.nodes)
        nodes.initializers.extend(own.initializers)
    return kept


def _with_statistics(node: onnx.NodeProto) -> onnx.NodeProto:
    whole = onnx.NodeProto()
    whole.CopyFrom(node)
    whole.output[:] = [node.output[0], f"{node.name}/mean", f"{node.name}/inverse_deviation"]
    return whole


def average(
    nodes: Nodes, x: str, before: tuple[int, ...], after: tuple[int, ...], window: Window, *, out: str | None = None
) -> str:
    """Add the mean over windows of `x`, [N, *before] -> [N, *after]; return its name."""
    fits = all(size == count * kernel for size, count, kernel in zip(before[1:], after[1:], window.kernel, strict=True))
    if fits and window.strides == window.kernel:
        return _mean_of_blocks(nodes, x, after, window.kernel, out)
    channels, area = before[0], int(np.prod(window.kernel))
    ones = nodes.constant(np.full((channels, 1, *window.kernel), 1 / area))
    needs_counts = any(window.pads) and not window.counts_pads
    mean = nodes.add(
        "Conv",
        [x, ones],
        out=None if needs_counts else out,
        group=channels,
        strides=list(window.strides),
        pads=list(window.pads),
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
    """How many real values each window holds, [1, 1, *after]."""
    counts = np.ones((1, 1), np.float32)
    for axis, (size, count) in enumerate(zip(before, after, strict=True)):
        starts = np.arange(count) * window.strides[axis] - window.pads[axis]
        held = np.minimum(starts + window.kernel[axis], size) - np.maximum(starts, 0)
        counts = counts[..., None] * held.astype(np.float32)
    return counts


def _window(node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]) -> Window:
    """Read the attributes of an AveragePool. Raises `Unfit` for dilations and for windows that overhang."""
    kernel = _integers(edit.attribute(node, "kernel_shape", []))
    strides = _integers(edit.attribute(node, "strides", [1] * len(kernel)))
    pads = _integers(edit.attribute(node, "pads", [0] * 2 * len(kernel)))
    mode = edit.attribute(node, "auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = _same_pads(before, after, kernel, strides, is_upper=mode == b"SAME_UPPER")
    rank = len(kernel)
    reach = tuple((before[i] + pads[i] + pads[rank + i] - kernel[i]) // strides[i] + 1 for i in range(rank))
    if reach != after:
        raise Unfit(
            f"{edit.label(node)} rounds its size up or dilates (ceil_mode, dilations), which has no gradient here; "
            "use padding instead."
        )
    return Window(kernel, strides, pads, bool(edit.attribute(node, "count_include_pad", 0)))


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
