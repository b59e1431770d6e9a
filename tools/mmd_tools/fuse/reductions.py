"""Which sums, norms, extremes and rearrangements are said in operators that have gradients? One rule an operator."""

import math

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit
from mmd_tools.fuse.steps import Steps

_TINY = 1e-24
"""Under a square root, whose slope is infinite at 0."""


def reciprocal(s: Steps) -> None:
    """1 / x"""
    s.emit("Div", s.scalar(1.0), s.x, last=True)


def sum_of_all(s: Steps) -> None:
    """one Add after another"""
    _added(s, last=True)


def mean_of_all(s: Steps) -> None:
    """one Add after another, times 1 / n"""
    s.emit("Mul", _added(s, last=False), s.scalar(1 / len(s.node.input)), last=True)


def reduce_l1(s: Steps) -> None:
    """the sum of abs x"""
    _reduced(s, s.emit("Abs", s.x), last=True)


def reduce_l2(s: Steps) -> None:
    """sqrt of the sum of x^2"""
    s.emit("Sqrt", s.emit("Add", _reduced(s, s.emit("Mul", s.x, s.x)), s.scalar(_TINY)), last=True)


def reduce_sum_square(s: Steps) -> None:
    """the sum of x^2"""
    _reduced(s, s.emit("Mul", s.x, s.x), last=True)


def reduce_log_sum(s: Steps) -> None:
    """log of the sum of x"""
    s.emit("Log", _reduced(s, s.x), last=True)


def reduce_log_sum_exp(s: Steps) -> None:
    """as it is; without kept axes a Reshape follows, because the gradient of that form does not load"""
    if edit.whole(s.node, "keepdims", 1):
        s.nodes.append(s.node)
        return
    axes = _axes(s)
    total = s.emit("ReduceLogSumExp", s.x, axes=axes, keepdims=1)
    s.reshape(total, *(size for axis, size in enumerate(s.sizes(s.x), start=1) if axis not in axes), last=True)


def lp_normalization(s: Steps) -> None:
    """x / the sum of abs x, or x / sqrt of the sum of x^2, along the axis"""
    axes = [int(edit.whole(s.node, "axis", -1))]
    if edit.whole(s.node, "p", 2) == 1:
        length = s.emit("ReduceSum", s.emit("Abs", s.x), s.integers(*axes), keepdims=1)
    else:
        square = s.emit("ReduceSum", s.emit("Mul", s.x, s.x), s.integers(*axes), keepdims=1)
        length = s.emit("Sqrt", s.emit("Add", square, s.scalar(_TINY)))
    s.emit("Div", s.x, length, last=True)


def reduce_max(s: Steps) -> None:
    """a MaxPool over all places of the reduced axes, which come last"""
    _extreme(s, s.x, last=True)


def reduce_min(s: Steps) -> None:
    """-max(-x), over all places of the reduced axes"""
    s.emit("Neg", _extreme(s, s.emit("Neg", s.x)), last=True)


def average_pool(s: Steps) -> None:
    """as it is; where its size is rounded up and its pads count, a Pad before it, because runtimes differ there"""
    node = s.node
    pads = edit.attribute(node, "pads", [])
    counts = edit.whole(node, "ceil_mode", 0) and edit.whole(node, "count_include_pad", 0)
    if not (counts and isinstance(pads, list) and any(pads)):
        s.nodes.append(node)
        return
    rank = len(pads) // 2
    padded = s.emit("Pad", s.x, s.integers(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    kept = {name: edit.attribute(node, name, [1] * rank) for name in ("kernel_shape", "strides")}
    s.emit("AveragePool", padded, last=True, ceil_mode=1, **kept)


def global_max_pool(s: Steps) -> None:
    """a MaxPool whose window is the whole map"""
    s.emit("MaxPool", s.x, last=True, kernel_shape=list(s.sizes(s.x)[1:]))


def depth_to_space(s: Steps) -> None:
    """Reshape, Transpose, Reshape"""
    channels, height, width = s.sizes(s.x)
    side = edit.whole(s.node, "blocksize", 1)
    thin = channels // side**2
    if edit.attribute(s.node, "mode", b"DCR") == b"CRD":
        split, order = (thin, side, side, height, width), [0, 1, 4, 2, 5, 3]
    else:
        split, order = (side, side, thin, height, width), [0, 3, 4, 1, 5, 2]
    moved = s.emit("Transpose", s.reshape(s.x, *split), perm=order)
    s.reshape(moved, thin, height * side, width * side, last=True)


def space_to_depth(s: Steps) -> None:
    """Reshape, Transpose, Reshape"""
    channels, height, width = s.sizes(s.x)
    side = edit.whole(s.node, "blocksize", 1)
    split = s.reshape(s.x, channels, height // side, side, width // side, side)
    moved = s.emit("Transpose", split, perm=[0, 3, 5, 1, 2, 4])
    s.reshape(moved, channels * side**2, height // side, width // side, last=True)


def lrn(s: Steps) -> None:
    """x / (bias + alpha / size * the sum of squares over `size` channels around) ^ beta"""
    dims = s.sizes(s.x)
    size, channels, rest = edit.whole(s.node, "size", 1), dims[0], [0] * (len(dims) - 1)
    pads = s.integers(0, (size - 1) // 2, *rest, 0, size // 2, *rest)
    padded = s.emit("Pad", s.emit("Mul", s.x, s.x), pads)
    axis = s.integers(1)
    total = ""
    for start in range(size):
        part = s.emit("Slice", padded, s.integers(start), s.integers(start + channels), axis)
        total = s.emit("Add", total, part) if total else part
    share = s.emit("Mul", total, s.scalar(edit.number(s.node, "alpha", 1e-4) / size))
    level = s.emit("Add", share, s.scalar(edit.number(s.node, "bias", 1.0)))
    s.emit("Div", s.x, s.emit("Pow", level, s.scalar(edit.number(s.node, "beta", 0.75))), last=True)


def _added(s: Steps, *, last: bool) -> str:
    total, others = s.x, list(s.node.input[1:])
    for index, name in enumerate(others, start=1):
        total = s.emit("Add", total, name, last=last and index == len(others))
    if last and not others:
        total = s.emit("Reshape", total, s.integers(0, -1), last=True)
    return total


def _reduced(s: Steps, x: str, *, last: bool = False) -> str:
    axes = _axes(s)
    return s.emit("ReduceSum", x, s.integers(*axes), last=last, keepdims=edit.whole(s.node, "keepdims", 1))


def _axes(s: Steps) -> list[int]:
    """Return the axes of a reduction, counted from the front. Raises `Unfit` where the batch is among them."""
    rank = len(s.sizes(s.x)) + 1
    found = edit.attribute(s.node, "axes", None)
    given = [int(axis) for axis in found] if isinstance(found, list | tuple) else list(range(rank))
    axes = sorted(axis % rank for axis in given)
    if 0 in axes:
        raise Unfit(f"{edit.label(s.node)} reduces the batch; each sample must be computed by itself.")
    return axes


def _extreme(s: Steps, x: str, *, last: bool = False) -> str:
    sizes, axes = s.sizes(s.x), _axes(s)
    kept = [axis for axis in range(1, len(sizes) + 1) if axis not in axes]
    if kept + axes != list(range(1, len(sizes) + 1)):
        x = s.emit("Transpose", x, perm=[0, *kept, *axes])
    length = math.prod(sizes[axis - 1] for axis in axes)
    row = s.emit("MaxPool", s.reshape(x, -1, length), kernel_shape=[length])
    keeps = bool(edit.whole(s.node, "keepdims", 1))
    left = [1 if axis in axes else size for axis, size in enumerate(sizes, start=1) if keeps or axis not in axes]
    return s.reshape(row, *left, last=last)
