"""How is the gradient of a convolution's weights made with the samples side by side? By products of whole rows."""

import itertools
from math import prod
from typing import Any

from mmd.training.batch_last.images import BatchLast
from mmd.training.images import Size, image_pads, pair

_FEWEST_CHANNELS = 6
"""With fewer, a product a tap is too thin to pay."""
_WIDEST_BY_ROWS = 48
"""Products of whole rows compute as many numbers a row as it has places; with more, unfolding takes less."""


def weight_gradient(images: BatchLast, mark: dict[str, Any]) -> bool:
    """dW[m, c, k] = sum over n and places o of dY[n, m, o] * X[n, c, o * stride + k * dilation - pad]."""
    x, d_y = images.size(mark["x"]), images.size(mark["d_y"])
    if x is None or d_y is None:
        return False
    if mark["groups"] == 1 and x[1] >= _FEWEST_CHANNELS:
        _by_taps(images, mark, x, d_y)
    elif mark["groups"] == x[1] == d_y[1] > 1 and d_y[3] <= _WIDEST_BY_ROWS:
        _by_rows(images, mark, x, d_y)
    else:
        _by_columns(images, mark, x, d_y)
    return True


def _by_taps(images: BatchLast, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """One product a tap, and no columns."""
    graph = images.graph
    rows = graph.reshape(images.twin(mark["d_y"]), d_y[1], -1)
    seen = [graph.reshape(part, x[1], -1) for part in _unfolded(images, mark, x, d_y)]
    products = [graph.emit("Gemm", rows, part, transB=1) for part in seen]
    if len(products) == 1:
        graph.reshape(products[0], d_y[1], x[1], *mark["kernel"], out=mark["makes"])
        return
    stacked = graph.reshape(graph.emit("Concat", *products, axis=0), len(products), -1)
    turned = graph.emit("Transpose", stacked, perm=(1, 0))
    graph.reshape(turned, d_y[1], x[1], *mark["kernel"], out=mark["makes"])


def _by_rows(images: BatchLast, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """Depthwise: one product a row of the kernel, of all columns of dY with all columns of X.

    Of a product [w, W] the places [o, o * stride + k * dilation - pad] are wanted. In a matrix whose rows are longer by
    the stride, what lies one below the other, so that a sum of the rows is the sum wanted.
    """
    graph, n, channels = images.graph, images.inner, x[1]
    (high, wide), (row_stride, stride) = pair(mark["kernel"]), pair(mark["strides"])
    (row_dilation, dilation), (top, left, bottom, right) = pair(mark["dilations"]), image_pads(mark["pads"])
    rows, columns = d_y[2:]
    across = graph.emit("Transpose", graph.reshape(images.twin(mark["d_y"]), *d_y[1:], n), perm=(0, 2, 1, 3))
    across = graph.reshape(across, channels, columns, -1)
    image = graph.pad(graph.reshape(images.twin(mark["x"]), *x[1:], n), [0, top, 0, 0], [0, bottom, 0, 0])
    image = graph.emit("Transpose", image, perm=(0, 1, 3, 2))
    products = []
    for row in range(high):
        start = row * row_dilation
        stop, step = graph.integers(start + (rows - 1) * row_stride + 1), graph.integers(row_stride)
        seen = graph.emit("Slice", image, graph.integers(start), stop, graph.integers(1), step)
        product = graph.emit("MatMul", across, graph.reshape(seen, channels, -1, x[3]))
        products.append(graph.reshape(product, channels, 1, columns, x[3]))
    stacked = graph.emit("Concat", *products, axis=1) if high > 1 else products[0]
    reach = x[3] + left + right
    flat = graph.reshape(graph.pad(stacked, [0, 0, 0, left], [0, 0, 0, right]), channels, high, columns * reach)
    diagonals = graph.pad(flat, [0] * 3, [0, 0, columns * stride])
    diagonals = graph.reshape(diagonals, channels, high, columns, reach + stride)
    summed = graph.emit("ReduceSum", diagonals, graph.integers(2), keepdims=0)
    ends, axis, step = graph.integers((wide - 1) * dilation + 1), graph.integers(2), graph.integers(dilation)
    taken = graph.emit("Slice", summed, graph.integers(0), ends, axis, step)
    graph.reshape(taken, channels, 1, *mark["kernel"], out=mark["makes"])


def _by_columns(images: BatchLast, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """One product with what all taps see side by side; any groups."""
    graph, groups = images.graph, mark["groups"]
    channels, taps = x[1] // groups, prod(mark["kernel"])
    seen = [graph.reshape(part, groups, channels, 1, -1) for part in _unfolded(images, mark, x, d_y)]
    columns = graph.emit("Concat", *seen, axis=2) if taps > 1 else seen[0]
    if groups == 1:
        rows = graph.reshape(images.twin(mark["d_y"]), d_y[1], -1)
        product = graph.emit("Gemm", rows, graph.reshape(columns, channels * taps, -1), transB=1)
    else:
        rows = graph.reshape(images.twin(mark["d_y"]), groups, d_y[1] // groups, -1)
        turned = graph.emit("Transpose", graph.reshape(columns, groups, channels * taps, -1), perm=(0, 2, 1))
        product = graph.emit("MatMul", rows, turned)
    graph.reshape(product, d_y[1], channels, *mark["kernel"], out=mark["makes"])


def _unfolded(images: BatchLast, mark: dict[str, Any], x: Size, d_y: Size) -> list[str]:
    """Return what each tap of the kernel sees of X: one number of it for each of dY."""
    graph, n = images.graph, images.inner
    kernel, strides, dilations = pair(mark["kernel"]), pair(mark["strides"]), pair(mark["dilations"])
    top, left, bottom, right = image_pads(mark["pads"])
    image = graph.pad(graph.reshape(images.twin(mark["x"]), *x[1:], n), [0, top, left, 0], [0, bottom, right, 0])
    seen = []
    for tap in itertools.product(*(range(k) for k in kernel)):
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        if strides == (1, 1) and (*starts, *d_y[2:]) == (top, left, *x[2:]):
            seen.append(images.twin(mark["x"]))
            continue
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, d_y[2:], strides, strict=True)]
        seen.append(graph.emit("Slice", image, graph.integers(*starts), graph.integers(*stops), graph.integers(1, 2),
                               graph.integers(*strides)))  # fmt: skip
    return seen
