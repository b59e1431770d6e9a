"""How is a max-pool whose windows tile computed in another layout? By comparing parts, forward and back."""

from dataclasses import dataclass
from typing import Any

from onnx import NodeProto, TensorProto

from mmd.training.images import Images, image_pads, pair
from mmd.training.rewriting import STEP_FUNCTION, attributes_of


@dataclass(frozen=True)
class _Choice:
    """Parts, and the maximum of them."""

    parts: tuple[str, ...]
    largest: str
    axis: int


class Poolings:
    """The max-pools of a graph that are done on twins."""

    def __init__(self, images: Images) -> None:
        self._images, self._graph = images, images.graph
        self._made: dict[str, tuple[_Choice, _Choice]] = {}
        """The maxima of a pooling, first along each row of a window, then of the rows, by the pooling's output."""

    def max_pool(self, node: NodeProto) -> bool:
        """Take the maximum of a window's places, each place a tensor of the output's size."""
        images, graph = self._images, self._graph
        x, y = node.input[0], node.output[0]
        before, after, kernel = images.size(x), images.size(y), pair(attributes_of(node)["kernel_shape"])
        if x not in images.only_twins or before is None or after is None or not self._is_tiling(node):
            return False
        if after[2] * kernel[0] > before[2] or after[3] * kernel[1] > before[3]:
            return False
        (*_, high, wide), lines, inner = after, images.lines(after), images.inner
        image = graph.reshape(images.twin(x), lines, before[2], before[3] * inner)
        crop = [0, high * kernel[0] - before[2], (wide * kernel[1] - before[3]) * inner]
        places = graph.reshape(graph.pad(image, [0] * 3, crop), lines * high * kernel[0], wide, -1)
        across = self._largest(places, kernel[1], axis=2, length=inner)
        down = self._largest(graph.reshape(across.largest, lines * high, kernel[0], -1), kernel[0], axis=1)
        self._made[y] = (across, down)
        images.define(y, graph.reshape(down.largest, *images.declared(after)))
        return True

    def gradient(self, mark: dict[str, Any], *, has_mask: bool) -> bool:
        """Give dY to the first place of a window that holds its maximum, as with onnxruntime's indices.

        With a mask dY goes only where the maximum is above 0: the gradient of a ReLU before the pooling.
        """
        images, graph, inner = self._images, self._graph, self._images.inner
        d_x, d_y, x, y = (mark[key] for key in ("makes", "d_y", "x", "y"))
        before, after, kernel = images.size(x), images.size(y), pair(mark["kernel"])
        if y not in self._made or before is None or after is None:
            return False
        graph.shapes[d_y], graph.shapes[d_x] = graph.shapes[y], graph.shapes[x]
        across, down = self._made[y]
        (*_, high, wide), lines = before, images.lines(before)
        gradient = images.twin(d_y)
        if has_mask:
            gradient = graph.emit("Mul", gradient, graph.emit("HardSigmoid", images.twin(y), **STEP_FUNCTION))
        gradient = graph.reshape(gradient, lines * after[2], 1, after[3] * inner)
        gradient = self._routed(gradient, down)
        gradient = graph.reshape(gradient, lines * after[2] * kernel[0], after[3], inner)
        gradient = self._routed(gradient, across)
        image = graph.reshape(gradient, lines, after[2] * kernel[0], after[3] * kernel[1] * inner)
        image = graph.pad(image, [0] * 3, [0, high - after[2] * kernel[0], (wide - after[3] * kernel[1]) * inner])
        images.define(d_x, graph.reshape(image, *images.declared(before)))
        return True

    def _is_tiling(self, node: NodeProto) -> bool:
        """Tell whether windows neither overlap nor are padded, and the indices serve this gradient alone."""
        attributes, y = attributes_of(node), node.output[0]
        marks = self._graph.marks.values()
        return (
            pair(attributes.get("strides")) == pair(attributes["kernel_shape"])
            and not any(image_pads(attributes.get("pads")))
            and attributes.get("auto_pad", "NOTSET") == "NOTSET"
            and set(attributes.get("dilations") or [1]) == {1}
            and (len(node.output) < 2 or any(m["op"] == "max_pool" and m["y"] == y for m in marks))
        )

    def _largest(self, tensor: str, count: int, *, axis: int, length: int = 1) -> _Choice:
        """Take the maximum over `count` parts along an axis."""
        if count == 1:
            return _Choice((tensor,), tensor, axis)
        parts = tuple(f"{tensor}/part_{index}" for index in range(count))
        self._graph.emit_many("Split", [tensor, self._graph.integers(*[length] * count)], parts, axis=axis)
        return _Choice(parts, self._graph.emit("Max", *parts), axis)

    def _routed(self, gradient: str, choice: _Choice) -> str:
        """Give the gradient to the first part that is the maximum."""
        if len(choice.parts) == 1:
            return gradient
        graph, routed = self._graph, []
        for part in choice.parts[:-1]:
            is_largest = graph.emit("Cast", graph.emit("Equal", part, choice.largest), to=TensorProto.FLOAT)
            routed.append(graph.emit("Mul", gradient, is_largest))
            gradient = graph.emit("Sub", gradient, routed[-1])
        return graph.emit("Concat", *routed, gradient, axis=choice.axis)
