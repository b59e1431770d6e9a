"""How is the gradient of a blocked convolution's weights made? By a convolution too: of X by dY.

Both have batch and channels exchanged, so that the sum over the batch is the sum over the channels of that
convolution (docs/performance.md).
"""

from math import prod
from typing import Any

from mmd.training.blocked.images import Images, Size, image_pads, pair
from mmd.training.blocks import DOMAIN


def weight_gradient(images: Images, mark: dict[str, Any]) -> bool:
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


def _dense(images: Images, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """Convolve X [C, n, H, W] by dY [M, n, h, w]: the batch is what is summed over."""
    graph, block = images.graph, images.block
    n, channels, outputs = x[0], x[1], d_y[1]
    batch, rows = images.padded(n), images.padded(outputs)
    sides = image_pads(mark["pads"])
    swapped = graph.emit("Transpose", images.plain_image(mark["x"]), perm=(1, 0, 2, 3))
    image = _padded_columns(images, swapped, (channels, batch - n, *x[2:]), sides)
    places = d_y[2] * d_y[3]
    kernel = graph.reshape(images.blocked(mark["d_y"]), n, rows // block, places, block)
    kernel = graph.pad(kernel, [0] * 4, [batch - n, 0, 0, 0])
    kernel = graph.reshape(kernel, batch // block, block, rows // block, places, block)
    kernel = graph.reshape(graph.emit("Transpose", kernel, perm=(2, 0, 3, 1, 4)), rows, batch, *d_y[2:])
    # Padding in the height costs the convolution nothing; in the width it is dear.
    made = graph.emit("Conv", image, kernel, domain=DOMAIN, kernel_shape=d_y[2:],
                      pads=(max(0, sides[0]), 0, max(0, sides[2]), 0),
                      strides=pair(mark["dilations"]), dilations=pair(mark["strides"]))  # fmt: skip
    # [C, M / block, taps, block] -> [M / block, C, taps, block] -> [M, C, taps]
    taps = prod(mark["kernel"])
    lines = graph.reshape(made, channels, rows // block, taps * block)
    swapped = graph.emit("Transpose", lines, perm=(1, 0, 2))
    image = graph.reshape(swapped, rows // block, block, 1, channels * taps)
    whole = graph.emit("ReorderOutput", image, domain=DOMAIN, channels=block)
    if rows == outputs:
        graph.reshape(whole, outputs, channels, *mark["kernel"], out=mark["makes"])
        return
    whole = graph.reshape(whole, rows, channels, *mark["kernel"])
    graph.emit("Slice", whole, graph.integers(0), graph.integers(outputs), out=mark["makes"])


def _padded_columns(images: Images, swapped: str, size: Size, sides: Size) -> str:
    """Block X [C, n, H, W] by the batch, filled up to whole blocks, and pad (or crop) it."""
    graph, block = images.graph, images.block
    channels, missing, high, wide = size
    swapped = graph.pad(swapped, [0] * 4, [0, missing, 0, 0])
    image = graph.emit("ReorderInput", swapped, domain=DOMAIN)
    crop = [min(0, sides[0]), min(0, sides[2])]
    if not any((*crop, sides[1], sides[3])):
        return image
    # As lines of whole blocks: five times as quick as padding the plain tensor.
    lines = graph.reshape(image, -1, high, wide * block)
    lines = graph.pad(lines, [0, crop[0], sides[1] * block], [0, crop[1], sides[3] * block])
    return graph.reshape(lines, channels, -1, high + sum(crop), wide + sides[1] + sides[3])


def _pointwise(images: Images, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """A product a sample, and their sum."""
    graph, places = images.graph, x[2] * x[3]
    left = graph.reshape(images.plain(mark["d_y"]), d_y[0], d_y[1], places)
    right = graph.emit("Transpose", graph.reshape(images.plain(mark["x"]), x[0], x[1], places), perm=(0, 2, 1))
    summed = graph.emit("ReduceSum", graph.emit("MatMul", left, right), graph.integers(0), keepdims=0)
    graph.reshape(summed, d_y[1], x[1], *mark["kernel"], out=mark["makes"])


def _depthwise(images: Images, mark: dict[str, Any], x: Size, d_y: Size) -> None:
    """Convolve each channel of each sample by its own dY: batch and channels together are the channels."""
    graph, block = images.graph, images.block
    n, channels, high, wide = x
    pads = image_pads(mark["pads"])
    crop = tuple(min(0, pad) for pad in pads)
    lines = graph.reshape(images.blocked(mark["x"]), n * channels // block, high, wide * block)
    lines = graph.pad(lines, [0, crop[0], crop[1] * block], [0, crop[2], crop[3] * block])
    image = graph.reshape(lines, 1, n * channels, high + crop[0] + crop[2], wide + crop[1] + crop[3])
    kernel = graph.reshape(images.blocked(mark["d_y"]), n * channels, 1, *d_y[2:])
    made = graph.emit("Conv", image, kernel, domain=DOMAIN, group=n * channels, kernel_shape=d_y[2:],
                      pads=tuple(max(0, pad) for pad in pads),
                      strides=pair(mark["dilations"]), dilations=pair(mark["strides"]))  # fmt: skip
    rows = graph.reshape(made, n, channels // block, prod(mark["kernel"]), block)
    summed = graph.emit("ReduceSum", rows, graph.integers(0), keepdims=0)
    turned = graph.emit("Transpose", summed, perm=(0, 2, 1))
    graph.reshape(turned, channels, 1, *mark["kernel"], out=mark["makes"])
