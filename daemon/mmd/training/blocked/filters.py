"""How does a filter get into blocks? The runtime's own reordering is the quickest way to bring one axis innermost."""

from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.images import Size


def blocked_filter(images: Blocked, w: str, kernel: Size, *, keeps_inputs: bool) -> str:
    """[M, C, h, w] -> [M / block, C / block, h, w, block, block], or [M / block, C, h, w, block]."""
    graph, block = images.graph, images.block
    outputs, inputs, high, wide = kernel
    rows, taps = images.padded(outputs), high * wide
    columns = inputs if keeps_inputs else images.padded(inputs)
    whole = _whole_filter(images, w, kernel, rows, columns)
    turned = graph.emit("ReorderInput", graph.reshape(whole, 1, rows, 1, columns * taps), domain=DOMAIN)
    if not keeps_inputs:
        split = graph.reshape(turned, rows // block, columns // block, block, taps, block)
        turned = graph.emit("Transpose", split, perm=(0, 1, 3, 2, 4))
    return graph.reshape(turned, rows, columns, high, wide)


def turned_filter(images: Blocked, w: str, kernel: Size, *, is_depthwise: bool) -> str:
    """The filter of the input gradient: inputs and outputs exchanged, the kernel turned by 180 degrees."""
    graph, block = images.graph, images.block
    outputs, inputs, high, wide = kernel
    taps = high * wide
    rows, columns = images.padded(outputs), 1 if is_depthwise else images.padded(inputs)
    whole = _whole_filter(images, w, kernel, rows, columns)
    if is_depthwise:
        image = graph.emit("ReorderInput", graph.reshape(whole, 1, rows, 1, taps), domain=DOMAIN)
        turned = graph.reshape(image, rows // block, 1, taps, block)
    else:
        image = graph.emit("ReorderInput", graph.reshape(whole, rows, columns, 1, taps), domain=DOMAIN)
        split = graph.reshape(image, rows // block, block, columns // block, taps, block)
        turned = graph.emit("Transpose", split, perm=(2, 0, 3, 1, 4))
    if taps > 1:
        turned = graph.emit("Gather", turned, graph.integers(*reversed(range(taps))), axis=2)
    return graph.reshape(turned, *((rows, 1) if is_depthwise else (columns, rows)), high, wide)


def _whole_filter(images: Blocked, w: str, kernel: Size, rows: int, columns: int) -> str:
    """The filter, filled up to whole blocks."""
    filler = [rows - kernel[0], columns - kernel[1], 0, 0]
    if not any(filler):
        return images.plain(w)
    return images.graph.pad(images.graph.reshape(images.plain(w), *kernel), [0] * 4, filler)
