"""How is the gradient of a blocked convolution's weights made? By a convolution too: of X by dY.

Both have batch and channels exchanged, so that the sum over the batch is the sum over the channels of that
convolution (docs/performance.md).
"""

from math import prod
from typing import Any

from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.images import Size, image_pads, pair

_FLOAT = 4
_WIDE_PICTURE = 256 << 10
"""Bytes of a block of channels, all places of a block of samples: half of a core's own cache."""
_BLOCKS_A_TURN = 4
"""Blocks of outputs that the runtime's convolution computes at once."""


def weight_gradient(images: Blocked, mark: dict[str, Any]) -> bool:
    """dW[m, c, k] = sum over n and places o of dY[n, m, o] * X[n, c, o * stride + k * dilation - pad]."""
    x, d_y = images.size(mark["x"]), images.size(mark["d_y"])
    if x is None or d_y is None:
        return False
    if mark["groups"] == 1 and {*mark["kernel"], *mark["strides"]} == {1} and not any(mark["pads"]):
        _pointwise(images, mark, x, d_y)
        return True
    if mark["groups"] == 1 and images.fits(d_y[1]):
        _dense(images, mark, x, d_y)
        return True
    if mark["groups"] == x[1] == d_y[1] and x[1] % images.block == 0:
        _depthwise(images, mark, x, d_y)
        return True
    return False


def _dense(images: Blocked, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """Convolve X [C, n, H, W] by dY [M, n, h, w]: the batch is what is summed over.

    The channels of a block stay together, as places of a wider image: each row of it holds W places of so many
    channels, and the taps of dY lie as far apart as a channel's next place.
    """
    graph, block = images.graph, images.block
    batch, rows, places = images.padded(d_y[0]), images.padded(d_y[1]), d_y[2] * d_y[3]
    image, (joined, together, high, wide) = _exchanged(images, mark, x)
    kernel = graph.reshape(images.twin(mark["d_y"]), d_y[0], rows // block, places, block)
    kernel = graph.pad(kernel, [0] * 4, [batch - d_y[0], 0, 0, 0])
    kernel = graph.reshape(kernel, batch // block, block, rows // block, places, block)
    kernel = graph.reshape(graph.emit("Transpose", kernel, perm=(2, 0, 3, 1, 4)), rows, batch, *d_y[2:])
    sides, strides, dilations = image_pads(mark["pads"]), pair(mark["strides"]), pair(mark["dilations"])
    # Padding in the height costs the convolution nothing; in the width it is dear.
    made = graph.emit("Conv", graph.reshape(image, joined, batch, high, wide * together), kernel, domain=DOMAIN,
                      kernel_shape=d_y[2:], pads=(max(0, sides[0]), 0, max(0, sides[2]), 0),
                      strides=(dilations[0], 1), dilations=(strides[0], strides[1] * together))  # fmt: skip
    _into_place(images, made, mark, (rows, joined, together))


def _exchanged(images: Blocked, mark: dict[str, Any], x: Size) -> tuple[str, Size]:
    """Return X blocked by the batch, padded (or cropped) in the width: [C / t, n / block, H, W * t, block].

    Also C / t, how many channels t stay together, H and W.
    """
    graph, block = images.graph, images.block
    n, channels, high, wide = x
    together = _together(images, mark, x)
    joined = images.padded(channels) // block if together == block else channels
    values = images.twin(mark["x"]) if together == block else images.plain(mark["x"])
    lines = graph.pad(graph.reshape(values, n, -1), [0, 0], [images.padded(n) - n, 0])
    groups = images.padded(n) // block
    lines = graph.emit("ReorderInput", graph.reshape(lines, groups, block, 1, -1), domain=DOMAIN)
    top, left, bottom, right = image_pads(mark["pads"])
    crop, step = (min(0, top), min(0, bottom)), together * block
    lines = graph.reshape(lines, groups * joined, high, wide * step)
    lines = graph.pad(lines, [0, crop[0], left * step], [0, crop[1], right * step])
    if groups > 1 and joined > 1:
        lines = graph.emit("Transpose", graph.reshape(lines, groups, joined, -1), perm=(1, 0, 2))
    return lines, (joined, together, high + sum(crop), wide + left + right)


def _together(images: Blocked, mark: dict[str, Any], x: Size) -> int:
    """Return how many channels of X stay side by side: a block, or each is on its own.

    A picture so wide that it leaves the cache between two taps costs more than bringing its channels apart, unless
    there are so many outputs that they are computed in several turns (docs/performance.md).
    """
    block, d_y = images.block, images.size(mark["d_y"])
    assert d_y is not None
    picture = x[2] * x[3] * block * block * _FLOAT
    is_too_wide = picture >= _WIDE_PICTURE and d_y[1] <= _BLOCKS_A_TURN * block
    return block if mark["x"] in images.names and not is_too_wide else 1


def _into_place(images: Blocked, made: str, mark: dict[str, Any], size: tuple[int, int, int]) -> None:
    """[C / t, M / block, h, w * t, block] -> [M, C, h, w]."""
    graph, block = images.graph, images.block
    rows, joined, together = size
    (high, wide), dilation = pair(mark["kernel"]), pair(mark["dilations"])[1]
    reach = dilation * (wide - 1) + 1
    outputs, inputs = images.size(mark["d_y"]), images.size(mark["x"])
    assert outputs is not None and inputs is not None
    if dilation > 1:
        made = graph.reshape(made, joined * rows // block, high, reach, together * block)
        ends, axis, step = graph.integers(reach), graph.integers(2), graph.integers(dilation)
        made = graph.emit("Slice", made, graph.integers(0), ends, axis, step)
    pieces = graph.reshape(made, joined, rows // block, high * wide, together, block)
    pieces = graph.emit("Transpose", pieces, perm=(1, 0, 3, 2, 4))
    image = graph.reshape(pieces, rows // block, block, 1, joined * together * high * wide)
    whole = graph.emit("ReorderOutput", image, domain=DOMAIN, channels=block)
    wanted = (outputs[1], inputs[1])
    if (rows, joined * together) == wanted:
        graph.reshape(whole, *wanted, *mark["kernel"], out=mark["makes"])
        return
    whole = graph.reshape(whole, rows, joined * together, *mark["kernel"])
    graph.emit("Slice", whole, graph.integers(0, 0), graph.integers(*wanted), out=mark["makes"])


def _pointwise(images: Blocked, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """A product a sample, and their sum."""
    graph, places = images.graph, x[2] * x[3]
    left = graph.reshape(images.plain(mark["d_y"]), d_y[0], d_y[1], places)
    right = graph.emit("Transpose", graph.reshape(images.plain(mark["x"]), x[0], x[1], places), perm=(0, 2, 1))
    summed = graph.emit("ReduceSum", graph.emit("MatMul", left, right), graph.integers(0), keepdims=0)
    graph.reshape(summed, d_y[1], x[1], *mark["kernel"], out=mark["makes"])


def _depthwise(images: Blocked, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """Convolve each channel of each sample by its own dY: batch and channels together are the channels."""
    graph, block = images.graph, images.block
    n, channels, high, wide = x
    pads = image_pads(mark["pads"])
    crop = tuple(min(0, pad) for pad in pads)
    lines = graph.reshape(images.twin(mark["x"]), n * channels // block, high, wide * block)
    lines = graph.pad(lines, [0, crop[0], crop[1] * block], [0, crop[2], crop[3] * block])
    image = graph.reshape(lines, 1, n * channels, high + crop[0] + crop[2], wide + crop[1] + crop[3])
    kernel = graph.reshape(images.twin(mark["d_y"]), n * channels, 1, *d_y[2:])
    made = graph.emit("Conv", image, kernel, domain=DOMAIN, group=n * channels, kernel_shape=d_y[2:],
                      pads=tuple(max(0, pad) for pad in pads),
                      strides=pair(mark["dilations"]), dilations=pair(mark["strides"]))  # fmt: skip
    rows = graph.reshape(made, n, channels // block, prod(mark["kernel"]), block)
    summed = graph.emit("ReduceSum", rows, graph.integers(0), keepdims=0)
    turned = graph.emit("Transpose", summed, perm=(0, 2, 1))
    graph.reshape(turned, channels, 1, *mark["kernel"], out=mark["makes"])
