"""Which convolutions run in blocks, and how do gradients go back through them?"""

from typing import Any

from onnx import NodeProto

from mmd.training.blocked.filters import blocked_filter, turned_filter
from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.images import Size, as_image, image_pads, pair
from mmd.training.rewriting import attributes_of


def convolution(images: Blocked, node: NodeProto, *, has_relu: bool) -> str | None:
    """Return what the convolution, and the ReLU after it, makes in blocks; None where it is not done in blocks."""
    graph, (x, w) = images.graph, node.input[:2]
    attributes = attributes_of(node)
    before, kernel = images.size(x), as_image(graph.shapes.get(w))
    pads, groups = image_pads(attributes.get("pads")), int(attributes.get("group", 1))
    if before is None or kernel is None or images.size(node.output[0]) is None or min(pads) < 0:
        return None
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or not images.fits(kernel[0]):
        return None
    channels = before[1]
    is_direct = channels < images.block
    is_depthwise = groups == channels == kernel[0] > 1 and channels % images.block == 0
    is_dense = groups == 1 and (is_direct or images.fits(channels))
    if not (is_dense or is_depthwise):
        return None
    inputs = [
        images.plain_image(x) if is_direct else images.twin(x),
        blocked_filter(images, w, kernel, keeps_inputs=is_direct or is_depthwise),
    ]
    if len(node.input) > 2 and node.input[2]:
        inputs.append(graph.pad(node.input[2], [0], [images.padded(kernel[0]) - kernel[0]]))
    activation = {"activation": "Relu"} if has_relu else {}
    return graph.emit("Conv", *inputs, domain=DOMAIN, group=groups, kernel_shape=kernel[2:], pads=pads,
                      strides=pair(attributes.get("strides")), dilations=pair(attributes.get("dilations")),
                      **activation)  # fmt: skip


def input_gradient(images: Blocked, mark: dict[str, Any]) -> bool:
    """dX = dY, spread to the stride's places, convolved with the turned kernel."""
    graph = images.graph
    x, d_y = images.size(mark["x"]), images.size(mark["d_y"])
    kernel = as_image(graph.shapes.get(mark["w"]))
    if x is None or d_y is None or kernel is None or not images.fits(d_y[1]) or not images.fits(x[1]):
        return False
    is_depthwise = mark["groups"] == x[1] == d_y[1] and x[1] % images.block == 0
    if mark["groups"] != 1 and not is_depthwise:
        return False
    strides, dilations = pair(mark["strides"]), pair(mark["dilations"])
    reach = [d * (k - 1) for d, k in zip(dilations, kernel[2:], strict=True)]
    begins = [r - p for r, p in zip(reach, image_pads(mark["pads"])[:2], strict=True)]
    size = [d * s for d, s in zip(d_y[2:], strides, strict=True)]
    ends = [wanted - s - b + r for wanted, s, b, r in zip(x[2:], size, begins, reach, strict=True)]
    spread = _spread(images, images.twin(mark["d_y"]), d_y, strides)
    if min(*begins, *ends) < 0:
        crop = [[min(0, side) for side in sides] for sides in (begins, ends)]
        spread = graph.reshape(spread, -1, size[0], size[1] * images.block)
        spread = graph.pad(spread, [0, crop[0][0], crop[0][1] * images.block],
                           [0, crop[1][0], crop[1][1] * images.block])  # fmt: skip
        size = [s + c + d for s, c, d in zip(size, *crop, strict=True)]
        begins, ends = ([max(0, side) for side in sides] for sides in (begins, ends))
    spread = graph.reshape(spread, d_y[0], images.padded(d_y[1]), *size)
    turned = turned_filter(images, mark["w"], kernel, is_depthwise=is_depthwise)
    made = graph.emit("Conv", spread, turned, domain=DOMAIN, group=mark["groups"], kernel_shape=kernel[2:],
                      pads=(*begins, *ends), dilations=dilations)  # fmt: skip
    graph.shapes[mark["makes"]] = graph.shapes[mark["x"]]
    images.define(mark["makes"], made)
    return True


def _spread(images: Blocked, d_y: str, size: Size, strides: tuple[int, int]) -> str:
    """Put each number of dY where its window began, with zeros between."""
    if strides == (1, 1):
        return d_y
    n, channels, high, wide = size
    lines = n * images.padded(channels) // images.block
    apart = images.graph.reshape(d_y, lines * high, 1, wide, images.block)
    return images.graph.pad(apart, [0] * 4, [0, strides[0] - 1, 0, (strides[1] - 1) * images.block])
