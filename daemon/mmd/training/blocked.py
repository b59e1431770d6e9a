"""How does a step graph compute in the blocked layout? A walk that keeps images blocked from operator to operator.

A tensor [n, C, H, W] lies in memory as [n, C / block, H, W, block]. Its declared shape stays [n, C, H, W], with C
rounded up to whole blocks and the rest zeros; a sequence [n, C, L] is an image one row high. The walk converts a
tensor where an operator cannot do without the other layout, each tensor once each way.

Weight gradients are convolutions too: of X by dY, both with batch and channels exchanged, so that the sum over
the batch is the sum over the channels of that convolution (docs/performance.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import Rewriting, Shape, attributes_of

_MOST_WASTE = 1.5
"""A tensor is blocked when rounding its channels up costs at most this factor."""
STEP: dict[str, Any] = {"alpha": float(np.float32(3e38)), "beta": 0.0}
"""HardSigmoid with these is 1 for every positive number that is not denormal, and 0 for the rest."""
_KEEPS_ZERO = {"Relu", "Mul", "Add", "Sub", "Neg", "Sum", "Max", "Min", "Sign", "Abs", "Tanh", "Greater", "Cast"}
"""Element-wise operators that make 0 (or false) of zeros, so that what fills a block up stays harmless."""


class _Images:
    """The tensors of a graph, each in one layout or both."""

    def __init__(self, graph: Rewriting, block: int) -> None:
        self.graph, self.block = graph, block
        self.names: dict[str, str] = {}
        """The blocked twin of a tensor, by the tensor's name."""
        self.only_blocked: set[str] = set()

    def size(self, tensor: str) -> tuple[int, int, int, int] | None:
        """Return [n, C, H, W], or None for what is no image of known size."""
        return as_image(self.graph.shapes.get(tensor))

    def padded(self, channels: int) -> int:
        return -(-channels // self.block) * self.block

    def fits(self, channels: int) -> bool:
        """Tell whether blocks of so many channels pay, and the runtime can make them."""
        return channels % 4 == 0 and self.padded(channels) <= _MOST_WASTE * channels

    def blocked(self, tensor: str) -> str:
        """Return the blocked twin, reordering when there is none yet."""
        if tensor not in self.names:
            size = self.size(tensor)
            assert size is not None
            image = tensor if self.graph.shapes[tensor] == size else self.graph.reshape(tensor, *size)
            self.names[tensor] = self.graph.emit("ReorderInput", image, domain=DOMAIN)
        return self.names[tensor]

    def plain(self, tensor: str) -> str:
        """Return the tensor itself, reordering when only its blocked twin is there."""
        if tensor in self.only_blocked:
            size, shape = self.size(tensor), self.graph.shapes[tensor]
            assert size is not None and shape is not None
            self.only_blocked.remove(tensor)
            out = tensor if shape == size else None
            image = self.graph.emit("ReorderOutput", self.names[tensor], out=out, domain=DOMAIN, channels=size[1])
            if out is None:
                self.graph.reshape(image, *shape, out=tensor)
        return tensor

    def define(self, tensor: str, twin: str) -> None:
        """Say that `twin` is `tensor`, blocked."""
        self.names[tensor] = twin
        self.only_blocked.add(tensor)


def as_image(shape: Shape | None) -> tuple[int, int, int, int] | None:
    """[n, C, H, W] of an image, or of a sequence [n, C, L] as an image one row high."""
    if shape is None or len(shape) not in (3, 4):
        return None
    return (shape[0], shape[1], shape[-2] if len(shape) == 4 else 1, shape[-1])


def in_blocks(model: ModelProto, batch: int, block: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing in blocks of `block` channels.

    It has the inputs and outputs of `model` and their values but for rounding. Only what is marked as the gradient of
    a convolution or pooling (see `rewriting.MARKS`) is made anew; everything else is copied.
    """
    return _Walk(Rewriting(model, batch), block).run()


@dataclass(frozen=True)
class _Choice:
    """Parts, and the maximum of them."""

    parts: tuple[str, ...]
    largest: str
    axis: int


class _Walk:
    def __init__(self, graph: Rewriting, block: int) -> None:
        self.graph, self.block, self.images = graph, block, _Images(graph, block)
        self.pools: dict[str, tuple[_Choice, _Choice]] = {}
        """The maxima of a pooling, first along each row of a window, then of the rows, by the pooling's output."""
        self.sunk: set[str] = set()
        """Gradients of poolings that a ReLU's mask follows: it is applied to the smaller gradient they are made of."""
        self.masked: set[str] = set()
        """Those to which the mask has been applied."""
        self.fused: dict[str, NodeProto] = {}
        """The ReLU that a convolution does at once, by the convolution's output."""
        self.rules: dict[str, Callable[[NodeProto], bool]] = {
            "Conv": self._conv,
            "MaxPool": self._max_pool,
            "GlobalAveragePool": self._average,
            "ReduceSum": self._reduce_sum,
            "Concat": self._concat,
        }
        self.gradients: dict[str, Callable[[dict[str, Any]], bool]] = {
            "inputs": self._input_gradient,
            "weights": self._weight_gradient,
            "max_pool": self._max_pool_gradient,
        }

    def run(self) -> ModelProto:
        nodes = list(self.graph.model.graph.node)
        self._plan(nodes)
        for node in nodes:
            if self._is_done(node):
                continue
            mark = next((self.graph.marks[name] for name in node.output if name in self.graph.marks), None)
            if mark and self.gradients[mark["op"]](mark):
                continue
            rule = self.rules.get(node.op_type, self._elementwise)
            if not rule(node):
                self._copy(node)
        for output in self.graph.model.graph.output:
            self.images.plain(output.name)
        return self.graph.finish(DOMAIN)

    def _is_done(self, node: NodeProto) -> bool:
        """Skip what an earlier node did at once."""
        if node.op_type == "Relu" and node.input[0] in self.fused:
            return True
        if node.op_type == "Mul" and node.input[0] in self.masked:
            self.images.define(node.output[0], self.images.names[node.input[0]])
            return True
        return False

    def _copy(self, node: NodeProto) -> None:
        for name in node.input:
            self.images.plain(name)
        self.graph.nodes.append(node)

    def _plan(self, nodes: list[NodeProto]) -> None:
        """Find the ReLUs that a convolution can do, and the masks that can be applied below a pooling."""
        makers = {name: node for node in nodes for name in node.output}
        relus = {node.input[0]: node for node in nodes if node.op_type == "Relu"}
        for node in nodes:
            # The signs of x and of max(x, 0) agree where it matters.
            if _is_step(node) and node.input[0] in relus:
                self.graph.uses[node.input[0]] -= 1
                node.input[0] = relus[node.input[0]].output[0]
        for node in nodes:
            if node.op_type == "Conv" and self.graph.uses[node.output[0]] == 1 and node.output[0] in relus:
                self.fused[node.output[0]] = relus[node.output[0]]
        pools = {mark["makes"]: mark for mark in self.graph.marks.values() if mark["op"] == "max_pool"}
        for node in nodes:
            if node.op_type != "Mul" or node.input[0] not in pools or self.graph.uses[node.input[0]] != 1:
                continue
            sign = makers.get(node.input[1])
            if sign is not None and _is_step(sign) and sign.input[0] == pools[node.input[0]]["x"]:
                self.sunk.add(node.input[0])

    # -- forward and input gradients ---------------------------------------------------------------------------------

    def _conv(self, node: NodeProto) -> bool:
        x, w = node.input[:2]
        y = node.output[0]
        attributes = attributes_of(node)
        before, kernel, after = self.images.size(x), as_image(self.graph.shapes.get(w)), self.images.size(y)
        pads = image_pads(attributes.get("pads"))
        if before is None or kernel is None or after is None or attributes.get("auto_pad", "NOTSET") != "NOTSET":
            self.fused.pop(y, None)
            return False
        groups, channels = int(attributes.get("group", 1)), before[1]
        is_depthwise = groups == channels == kernel[0] > 1 and channels % self.block == 0
        is_dense = groups == 1 and (channels < self.block or self.images.fits(channels))
        if min(pads) < 0 or not self.images.fits(kernel[0]) or not (is_dense or is_depthwise):
            self.fused.pop(y, None)
            return False
        is_direct = channels < self.block
        image = self._as_4d(x) if is_direct else self.images.blocked(x)
        inputs = [image, self._filter(w, kernel, keeps_inputs=is_direct or is_depthwise)]
        if len(node.input) > 2 and node.input[2]:
            inputs.append(self.graph.pad(node.input[2], [0], [self.images.padded(kernel[0]) - kernel[0]]))
        activation = {"activation": "Relu"} if y in self.fused else {}
        made = self.graph.emit("Conv", *inputs, domain=DOMAIN, group=groups, kernel_shape=kernel[2:], pads=pads,
                               strides=pair(attributes.get("strides")), dilations=pair(attributes.get("dilations")),
                               **activation)  # fmt: skip
        self.images.define(self.fused[y].output[0] if y in self.fused else y, made)
        return True

    def _as_4d(self, x: str) -> str:
        size = self.images.size(x)
        assert size is not None
        plain = self.images.plain(x)
        return plain if self.graph.shapes[x] == size else self.graph.reshape(plain, *size)

    def _filter(self, w: str, kernel: tuple[int, int, int, int], *, keeps_inputs: bool) -> str:
        """[M, C, h, w] -> [M / block, C / block, h, w, block, block], or [M / block, C, h, w, block].

        The runtime's own reordering, with the rest of the axes as places, is the quickest way to bring M innermost.
        """
        outputs, inputs, high, wide = kernel
        rows, block, taps = self.images.padded(outputs), self.block, high * wide
        columns = inputs if keeps_inputs else self.images.padded(inputs)
        whole = self._whole_filter(w, kernel, rows, columns)
        turned = self.graph.emit("ReorderInput", self.graph.reshape(whole, 1, rows, 1, columns * taps), domain=DOMAIN)
        if not keeps_inputs:
            split = self.graph.reshape(turned, rows // block, columns // block, block, taps, block)
            turned = self.graph.emit("Transpose", split, perm=(0, 1, 3, 2, 4))
        return self.graph.reshape(turned, rows, columns, high, wide)

    def _whole_filter(self, w: str, kernel: tuple[int, int, int, int], rows: int, columns: int) -> str:
        filler = [rows - kernel[0], columns - kernel[1], 0, 0]
        if not any(filler):
            return self.images.plain(w)
        return self.graph.pad(self.graph.reshape(self.images.plain(w), *kernel), [0] * 4, filler)

    def _turned_filter(self, w: str, kernel: tuple[int, int, int, int], *, is_depthwise: bool) -> str:
        """The filter of the input gradient: inputs and outputs exchanged, the kernel turned by 180 degrees."""
        outputs, inputs, high, wide = kernel
        block, taps = self.block, high * wide
        rows, columns = self.images.padded(outputs), 1 if is_depthwise else self.images.padded(inputs)
        whole = self._whole_filter(w, kernel, rows, columns)
        if is_depthwise:
            image = self.graph.emit("ReorderInput", self.graph.reshape(whole, 1, rows, 1, taps), domain=DOMAIN)
            turned = self.graph.reshape(image, rows // block, 1, taps, block)
        else:
            image = self.graph.emit("ReorderInput", self.graph.reshape(whole, rows, columns, 1, taps), domain=DOMAIN)
            split = self.graph.reshape(image, rows // block, block, columns // block, taps, block)
            turned = self.graph.emit("Transpose", split, perm=(2, 0, 3, 1, 4))
        if taps > 1:
            turned = self.graph.emit("Gather", turned, self.graph.integers(*reversed(range(taps))), axis=2)
        return self.graph.reshape(turned, *((rows, 1) if is_depthwise else (columns, rows)), high, wide)

    def _input_gradient(self, mark: dict[str, Any]) -> bool:
        """dX = dY, spread to the stride's places, convolved with the turned kernel."""
        graph, images, block = self.graph, self.images, self.block
        x, d_y = images.size(mark["x"]), images.size(mark["d_y"])
        kernel = as_image(graph.shapes.get(mark["w"]))
        if x is None or d_y is None or kernel is None or not images.fits(d_y[1]) or not images.fits(x[1]):
            return False
        is_depthwise = mark["groups"] == x[1] == d_y[1] and x[1] % block == 0
        if mark["groups"] != 1 and not is_depthwise:
            return False
        strides, dilations = pair(mark["strides"]), pair(mark["dilations"])
        spread, size = images.blocked(mark["d_y"]), [d * s for d, s in zip(d_y[2:], strides, strict=True)]
        lines = d_y[0] * images.padded(d_y[1]) // block
        if strides != (1, 1):
            spread = graph.reshape(spread, lines * d_y[2], 1, d_y[3], block)
            spread = graph.pad(spread, [0] * 4, [0, strides[0] - 1, 0, (strides[1] - 1) * block])
        reach = [d * (k - 1) for d, k in zip(dilations, kernel[2:], strict=True)]
        begins = [r - p for r, p in zip(reach, image_pads(mark["pads"])[:2], strict=True)]
        ends = [wanted - s - b + r for wanted, s, b, r in zip(x[2:], size, begins, reach, strict=True)]
        if min(*begins, *ends) < 0:
            crop = [[min(0, side) for side in sides] for sides in (begins, ends)]
            spread = graph.reshape(spread, lines, size[0], size[1] * block)
            spread = graph.pad(spread, [0, crop[0][0], crop[0][1] * block], [0, crop[1][0], crop[1][1] * block])
            size = [s + c + d for s, c, d in zip(size, *crop, strict=True)]
            begins, ends = ([max(0, side) for side in sides] for sides in (begins, ends))
        spread = graph.reshape(spread, d_y[0], images.padded(d_y[1]), *size)
        turned = self._turned_filter(mark["w"], kernel, is_depthwise=is_depthwise)
        made = graph.emit("Conv", spread, turned, domain=DOMAIN, group=mark["groups"], kernel_shape=kernel[2:],
                          pads=(*begins, *ends), dilations=dilations)  # fmt: skip
        graph.shapes[mark["makes"]] = graph.shapes[mark["x"]]
        images.define(mark["makes"], made)
        return True

    def _average(self, node: NodeProto) -> bool:
        if node.input[0] not in self.images.only_blocked:
            return False
        self.images.define(
            node.output[0], self.graph.emit("GlobalAveragePool", self.images.blocked(node.input[0]), domain=DOMAIN)
        )
        return True

    # -- element by element ------------------------------------------------------------------------------------------

    def _elementwise(self, node: NodeProto) -> bool:
        """Compute on the blocked twins when one input has no other form; scalars are the same in both."""
        images, shape = self.images, self.graph.shapes.get(node.output[0])
        keeps_zero = node.op_type in _KEEPS_ZERO or _is_step(node)
        if not keeps_zero or not any(name in images.names for name in node.input):
            return False
        inputs = []
        for name in node.input:
            is_scalar = self.graph.shapes.get(name) is not None and prod(self.graph.shapes[name] or ()) == 1
            if not is_scalar and (self.graph.shapes.get(name) != shape or shape is None):
                return False
            if not is_scalar and name not in images.names and name in self.graph.booleans:
                return False
            inputs.append((name, is_scalar))
        # What fills a block must stay 0: only a product keeps it so, whatever the scalar.
        has_scalar = any(is_scalar for _, is_scalar in inputs)
        is_whole = shape is not None and shape[1] % self.block == 0
        if has_scalar and not is_whole and node.op_type not in ("Mul", "Greater"):
            return False
        made = self.graph.emit(
            node.op_type,
            *(self.images.plain(name) if is_scalar else images.blocked(name) for name, is_scalar in inputs),
            **attributes_of(node),
        )
        images.define(node.output[0], made)
        return True

    def _concat(self, node: NodeProto) -> bool:
        """Join along the channels when every part is whole blocks."""
        sizes = [self.images.size(name) for name in node.input]
        if attributes_of(node)["axis"] != 1 or not any(name in self.images.only_blocked for name in node.input):
            return False
        if any(size is None or size[1] % self.block for size in sizes):
            return False
        parts = [self.images.blocked(name) for name in node.input]
        self.images.define(node.output[0], self.graph.emit("Concat", *parts, axis=1))
        return True

    def _reduce_sum(self, node: NodeProto) -> bool:
        """The gradient of a bias: sum over the batch and the places."""
        x = node.input[0]
        size = self.images.size(x)
        axes = self.graph.value(node.input[1]) if len(node.input) > 1 else None
        if x not in self.images.names or size is None or axes is None or attributes_of(node).get("keepdims", 1):
            return False
        rank = len(self.graph.shapes[x] or ())
        if sorted(axes.tolist()) != [0, *range(2, rank)]:
            return False
        n, channels, high, wide = size
        padded, graph = self.images.padded(channels), self.graph
        places = graph.reshape(self.images.blocked(x), n * padded // self.block, high * wide, self.block)
        rows = graph.reshape(graph.emit("ReduceSum", places, graph.integers(1), keepdims=0), n, padded)
        is_whole = padded == channels
        total = graph.emit("ReduceSum", rows, graph.integers(0), keepdims=0, out=node.output[0] if is_whole else None)
        if not is_whole:
            graph.emit("Slice", total, graph.integers(0), graph.integers(channels), out=node.output[0])
        return True

    # -- pooling -----------------------------------------------------------------------------------------------------

    def _max_pool(self, node: NodeProto) -> bool:
        """A window that tiles: the maximum of its places, each place a tensor of the output's size."""
        x, y = node.input[0], node.output[0]
        attributes = attributes_of(node)
        kernel, after = pair(attributes["kernel_shape"]), self.images.size(y)
        before = self.images.size(x)
        is_tiling = (
            pair(attributes.get("strides")) == kernel
            and not any(image_pads(attributes.get("pads")))
            and attributes.get("auto_pad", "NOTSET") == "NOTSET"
            and set(attributes.get("dilations") or [1]) == {1}
        )
        has_mark = len(node.output) < 2 or any(m["op"] == "max_pool" and m["y"] == y for m in self.graph.marks.values())
        if x not in self.images.only_blocked or before is None or after is None or not is_tiling or not has_mark:
            return False
        if after[2] * kernel[0] > before[2] or after[3] * kernel[1] > before[3]:
            return False
        n, channels, high, wide = after
        lines, block = n * self.images.padded(channels) // self.block, self.block
        image = self.graph.reshape(self.images.blocked(x), lines, before[2], before[3] * block)
        crop = [0, high * kernel[0] - before[2], (wide * kernel[1] - before[3]) * block]
        places = self.graph.reshape(self.graph.pad(image, [0] * 3, crop), lines * high * kernel[0], wide, -1)
        across = self._largest(places, kernel[1], axis=2, length=block)
        down = self._largest(self.graph.reshape(across.largest, lines * high, kernel[0], -1), kernel[0], axis=1)
        self.pools[y] = (across, down)
        self.images.define(y, self.graph.reshape(down.largest, n, self.images.padded(channels), high, wide))
        return True

    def _largest(self, tensor: str, count: int, *, axis: int, length: int = 1) -> "_Choice":
        """Take the maximum over `count` parts along an axis."""
        if count == 1:
            return _Choice((tensor,), tensor, axis)
        parts = tuple(f"{tensor}/part_{index}" for index in range(count))
        self.graph.emit_many("Split", [tensor, self.graph.integers(*[length] * count)], parts, axis=axis)
        return _Choice(parts, self.graph.emit("Max", *parts), axis)

    def _max_pool_gradient(self, mark: dict[str, Any]) -> bool:
        """The gradient goes to the first place of a window that holds its maximum, as with onnxruntime's indices."""
        d_x, d_y, x, y = (mark[key] for key in ("makes", "d_y", "x", "y"))
        before, after = self.images.size(x), self.images.size(y)
        if y not in self.pools or before is None or after is None:
            return False
        graph, block, kernel = self.graph, self.block, pair(mark["kernel"])
        graph.shapes[d_y], graph.shapes[d_x] = graph.shapes[y], graph.shapes[x]
        across, down = self.pools[y]
        n, channels, high, wide = before
        lines = n * self.images.padded(channels) // block
        gradient = self.images.blocked(d_y)
        if d_x in self.sunk:
            self.masked.add(d_x)
            step = graph.emit("HardSigmoid", self.images.blocked(y), **STEP)
            gradient = graph.emit("Mul", gradient, step)
        gradient = graph.reshape(gradient, lines * after[2], 1, after[3] * block)
        gradient = self._routed(gradient, down)
        gradient = graph.reshape(gradient, lines * after[2] * kernel[0], after[3], block)
        gradient = self._routed(gradient, across)
        image = graph.reshape(gradient, lines, after[2] * kernel[0], after[3] * kernel[1] * block)
        image = graph.pad(image, [0] * 3, [0, high - after[2] * kernel[0], (wide - after[3] * kernel[1]) * block])
        self.images.define(d_x, graph.reshape(image, n, self.images.padded(channels), high, wide))
        return True

    def _routed(self, gradient: str, choice: "_Choice") -> str:
        """Give the gradient to the first part that is the maximum."""
        if len(choice.parts) == 1:
            return gradient
        graph, routed = self.graph, []
        for part in choice.parts[:-1]:
            is_largest = graph.emit("Cast", graph.emit("Equal", part, choice.largest), to=TensorProto.FLOAT)
            routed.append(graph.emit("Mul", gradient, is_largest))
            gradient = graph.emit("Sub", gradient, routed[-1])
        return graph.emit("Concat", *routed, gradient, axis=choice.axis)

    # -- weight gradients --------------------------------------------------------------------------------------------

    def _weight_gradient(self, mark: dict[str, Any]) -> bool:
        """dW[m, c, k] = sum over n and places o of dY[n, m, o] * X[n, c, o * stride + k * dilation - pad]."""
        x, d_y = self.images.size(mark["x"]), self.images.size(mark["d_y"])
        if x is None or d_y is None:
            return False
        if mark["groups"] == 1 and {*mark["kernel"], *mark["strides"]} == {1} and not any(mark["pads"]):
            self._pointwise_weight_gradient(mark, x, d_y)
            return True
        if mark["groups"] == 1 and self.images.fits(d_y[1]):
            self._dense_weight_gradient(mark, x, d_y)
            return True
        if mark["groups"] == x[1] == d_y[1] and x[1] % self.block == 0:
            self._depthwise_weight_gradient(mark, x, d_y)
            return True
        return False

    def _dense_weight_gradient(self, mark: dict[str, Any], x: Shape, d_y: Shape) -> None:
        """Convolve X [C, n, H, W] by dY [M, n, h, w]: the batch is what is summed over."""
        graph, block = self.graph, self.block
        n, channels, outputs = x[0], x[1], d_y[1]
        batch, rows = self.images.padded(n), self.images.padded(outputs)
        sides = image_pads(mark["pads"])
        swapped = graph.emit("Transpose", self._as_4d(mark["x"]), perm=(1, 0, 2, 3))
        image = self._padded_columns(swapped, (channels, batch - n, *x[2:]), sides)
        places = d_y[2] * d_y[3]
        kernel = graph.reshape(self.images.blocked(mark["d_y"]), n, rows // block, places, block)
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

    def _padded_columns(self, swapped: str, size: Shape, sides: Shape) -> str:
        """Block X [C, n, H, W] by the batch, filled up to whole blocks, and pad (or crop) it."""
        graph, block = self.graph, self.block
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

    def _pointwise_weight_gradient(self, mark: dict[str, Any], x: Shape, d_y: Shape) -> None:
        """A product a sample, and their sum."""
        graph, places = self.graph, x[2] * x[3]
        left = graph.reshape(self.images.plain(mark["d_y"]), d_y[0], d_y[1], places)
        right = graph.emit("Transpose", graph.reshape(self.images.plain(mark["x"]), x[0], x[1], places), perm=(0, 2, 1))
        summed = graph.emit("ReduceSum", graph.emit("MatMul", left, right), graph.integers(0), keepdims=0)
        graph.reshape(summed, d_y[1], x[1], *mark["kernel"], out=mark["makes"])

    def _depthwise_weight_gradient(self, mark: dict[str, Any], x: Shape, d_y: Shape) -> None:
        """Convolve each channel of each sample by its own dY: batch and channels together are the channels."""
        graph, block = self.graph, self.block
        n, channels, high, wide = x
        pads = image_pads(mark["pads"])
        crop = tuple(min(0, pad) for pad in pads)
        lines = graph.reshape(self.images.blocked(mark["x"]), n * channels // block, high, wide * block)
        lines = graph.pad(lines, [0, crop[0], crop[1] * block], [0, crop[2], crop[3] * block])
        image = graph.reshape(lines, 1, n * channels, high + crop[0] + crop[2], wide + crop[1] + crop[3])
        kernel = graph.reshape(self.images.blocked(mark["d_y"]), n * channels, 1, *d_y[2:])
        made = graph.emit("Conv", image, kernel, domain=DOMAIN, group=n * channels, kernel_shape=d_y[2:],
                          pads=tuple(max(0, pad) for pad in pads),
                          strides=pair(mark["dilations"]), dilations=pair(mark["strides"]))  # fmt: skip
        kernel_size = as_image((1, 1, *mark["kernel"]))
        assert kernel_size is not None
        taps = kernel_size[2] * kernel_size[3]
        rows = graph.reshape(made, n, channels // block, taps, block)
        summed = graph.emit("ReduceSum", rows, graph.integers(0), keepdims=0)
        turned = graph.emit("Transpose", summed, perm=(0, 2, 1))
        graph.reshape(turned, channels, 1, *mark["kernel"], out=mark["makes"])


def _is_step(node: NodeProto) -> bool:
    """Tell whether the node makes 1 of what is above 0, and 0 of the rest: see the lowering rule of ReluGrad."""
    return node.op_type == "HardSigmoid" and attributes_of(node) == STEP


def pair(values: Any) -> tuple[int, int]:
    """Strides, dilations or a kernel as two numbers; a sequence is an image one row high."""
    numbers = tuple(int(value) for value in values or (1, 1))
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def image_pads(values: Any) -> tuple[int, int, int, int]:
    """Pads as [top, left, bottom, right]."""
    numbers = tuple(int(value) for value in values or (0,) * 4)
    if len(numbers) == 2:
        return (0, numbers[0], 0, numbers[1])
    return (numbers[0], numbers[1], numbers[2], numbers[3])
