"""How does a convolution run with the samples side by side, and how do gradients go back through it?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from onnx import NodeProto

from mmd.training.batch_last.images import BatchLast
from mmd.training.images import Size, as_image, image_pads, pair
from mmd.training.rewriting import attributes_of

_Places = tuple[int, int, int]
"""Channels, heights and widths."""


@dataclass(frozen=True)
class _Window:
    """How a kernel slides: heights and widths; pads are [top, left, bottom, right]."""

    pads: Sequence[int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class _Phase:
    """Which taps of a kernel reach the places r, r + stride, r + 2 stride, ... of the input, along one axis."""

    taps: range
    """From the tap that reads the first place of dY to the one that reads the last: downwards."""
    dilation: int
    pads: tuple[int, int]


def convolution(images: BatchLast, node: NodeProto, *, has_relu: bool) -> str | None:
    """Return what the convolution, and the ReLU after it, makes; None where it stays as it is."""
    graph, (x, w, *bias) = images.graph, node.input
    attributes = attributes_of(node)
    size, kernel = images.size(x), as_image(graph.shapes.get(w))
    pads = image_pads(attributes.get("pads"))
    if size is None or kernel is None or images.size(node.output[0]) is None or min(pads) < 0:
        return None
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    window = _Window(
        pads, pair(attributes.get("strides")), pair(attributes.get("dilations")), attributes.get("group", 1)
    )
    filters = [graph.reshape(images.plain(w), *kernel), *(images.plain(name) for name in bias)]
    return _convolved(images, images.twin(x), size, filters, kernel, window, has_relu=has_relu)


def _as_filter(images: BatchLast, w: str, kernel: Size) -> str:
    """Return the weights, as those of images also where they are those of sequences."""
    plain = images.plain(w)
    return plain if images.graph.shapes[w] == kernel else images.graph.reshape(plain, *kernel)


def _convolved(
    images: BatchLast, x: str, size: Size, filters: list[str], kernel: Size, window: _Window, *, has_relu: bool = False
) -> str:
    """Convolve a twin. A step along the width is a step over a whole batch."""
    graph, n = images.graph, images.inner
    (top, left, bottom, right), (down, across) = window.pads, window.strides
    w, *bias = filters
    if across == 1:
        made = graph.emit("Conv", x, w, *bias, group=window.groups, kernel_shape=kernel[2:], strides=(down, 1),
                          dilations=(window.dilations[0], window.dilations[1] * n),
                          pads=(top, left * n, bottom, right * n))  # fmt: skip
    else:
        # The batch as a third dimension, along which nothing slides.
        volume = graph.reshape(x, 1, *size[1:], n)
        made = graph.emit("Conv", volume, graph.reshape(w, *kernel, 1), *bias, group=window.groups,
                          kernel_shape=(*kernel[2:], 1), strides=(down, across, 1), dilations=(*window.dilations, 1),
                          pads=(top, left, 0, bottom, right, 0))  # fmt: skip
    if has_relu:
        made = graph.emit("Relu", made)
    if across == 1:
        return made
    high = (size[2] + top + bottom - window.dilations[0] * (kernel[2] - 1) - 1) // down + 1
    return graph.reshape(made, 1, kernel[0], high, -1)


def input_gradient(images: BatchLast, mark: dict[str, Any]) -> bool:
    """dX, a phase of the stride at a time: each is dY convolved with the taps that reach its places.

    So nothing is multiplied with the zeros between the places of dY. Of stride 1 the plain graph has a convolution
    already.
    """
    graph = images.graph
    x, d_y, kernel = images.size(mark["x"]), images.size(mark["d_y"]), as_image(graph.shapes.get(mark["w"]))
    strides, dilations, pads = pair(mark["strides"]), pair(mark["dilations"]), image_pads(mark["pads"])
    if x is None or d_y is None or kernel is None or strides == (1, 1):
        return False
    is_depthwise = mark["groups"] == x[1] == d_y[1] > 1
    if mark["groups"] != 1 and not is_depthwise:
        return False
    places = (-(-x[2] // strides[0]), -(-x[3] // strides[1]))
    rows, columns = (
        [_phase(r, d_y[2 + i], kernel[2 + i], places[i], strides[i], dilations[i], pads[i]) for r in range(strides[i])]
        for i in range(2)
    )
    if any(phase is not None and min(phase.pads) < 0 for phase in (*rows, *columns)):
        return False
    w = _as_filter(images, mark["w"], kernel)
    if not is_depthwise:
        w = graph.emit("Transpose", w, perm=(1, 0, 2, 3))
    bands = []
    for row in rows:
        parts = [_phase_of(images, mark, w, (row, column), (x[1], *places)) for column in columns]
        bands.append(_interleaved(images, parts, x[1] * places[0] * places[1]))
    lines = graph.reshape(_interleaved(images, bands, x[1] * places[0]), x[1], places[0] * strides[0], -1)
    crop = [0, x[2] - places[0] * strides[0], (x[3] - places[1] * strides[1]) * images.inner]
    graph.shapes[mark["makes"]] = graph.shapes[mark["x"]]
    images.define(mark["makes"], graph.reshape(graph.pad(lines, [0] * 3, crop), *images.declared(x)))
    return True


def _phase(r: int, outputs: int, kernel: int, places: int, stride: int, dilation: int, pad: int) -> _Phase | None:
    """Place r + stride j of the input is read at j + (r + pad - k dilation) / stride of dY, where that divides."""
    taps = [k for k in range(kernel) if (r + pad - k * dilation) % stride == 0]
    if not taps:
        return None
    step = stride // gcd(stride, dilation)
    apart = dilation * step // stride
    begin = (taps[-1] * dilation - r - pad) // stride
    end = places - outputs - begin + apart * (len(taps) - 1)
    return _Phase(range(taps[-1], taps[0] - 1, -step), apart, (begin, end))


def _phase_of(
    images: BatchLast, mark: dict[str, Any], w: str, phases: tuple[_Phase | None, _Phase | None], size: _Places
) -> str:
    """Return dX at the places of one phase of the rows and one of the columns."""
    graph, (row, column) = images.graph, phases
    if row is None or column is None:
        return graph.emit("ConstantOfShape", graph.integers(size[0] * size[1] * size[2], images.inner))
    d_y = images.size(mark["d_y"])
    assert d_y is not None
    starts, steps = ([phase.taps.start for phase in (row, column)], [phase.taps.step for phase in (row, column)])
    stops = [phase.taps.stop if phase.taps.stop >= 0 else -(2**31) for phase in (row, column)]
    taps = graph.emit("Slice", w, graph.integers(*starts), graph.integers(*stops), graph.integers(2, 3),
                      graph.integers(*steps))  # fmt: skip
    inputs = d_y[1] if mark["groups"] == 1 else 1
    kernel = (size[0], inputs, len(row.taps), len(column.taps))
    pads = (row.pads[0], column.pads[0], row.pads[1], column.pads[1])
    window = _Window(pads, dilations=(row.dilation, column.dilation), groups=mark["groups"])
    return _convolved(images, images.twin(mark["d_y"]), d_y, [taps], kernel, window)


def _interleaved(images: BatchLast, parts: list[str], count: int) -> str:
    """Put `count` pieces of each part in turns."""
    graph = images.graph
    pieces = [graph.reshape(part, count, -1) for part in parts]
    return pieces[0] if len(pieces) == 1 else graph.emit("Concat", *pieces, axis=1)
