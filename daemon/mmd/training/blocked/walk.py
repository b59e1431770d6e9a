"""Which nodes of a step graph run in blocks? A walk in the graph's order that asks each node's rule."""

from collections.abc import Callable
from typing import Any

from onnx import ModelProto, NodeProto

from mmd.training.blocked import convolutions, elementwise, weight_gradients
from mmd.training.blocked.images import Images
from mmd.training.blocked.poolings import Poolings
from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import Rewriting

_RULES: dict[str, Callable[[Images, NodeProto], bool]] = {
    "GlobalAveragePool": elementwise.global_average,
    "ReduceSum": elementwise.bias_gradient,
    "Concat": elementwise.concat,
}
"""Rules by operator; all others are element-wise or not done in blocks. False: not this one."""


def in_blocks(model: ModelProto, batch: int, block: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing in blocks of `block` channels.

    It has the inputs and outputs of `model` and their values but for rounding. Only what is marked as the gradient of
    a convolution or pooling (see `rewriting.MARKS`) is made anew; everything else is copied.
    """
    return _Walk(Rewriting(model, batch), block).run()


class _Walk:
    def __init__(self, graph: Rewriting, block: int) -> None:
        self.graph, self.images = graph, Images(graph, block)
        self.poolings = Poolings(self.images)
        nodes = list(graph.model.graph.node)
        self.relus = _fusable_relus(graph, nodes)
        self.sunk = _masked_poolings(graph, nodes)
        self.done: dict[str, str] = {}
        """What an earlier node made at once, by the output of the node that is left out."""

    def run(self) -> ModelProto:
        for node in self.graph.model.graph.node:
            if node.output[0] in self.done:
                self.images.define(node.output[0], self.done[node.output[0]])
            elif not self._in_blocks(node):
                for name in node.input:
                    self.images.plain(name)
                self.graph.nodes.append(node)
        for output in self.graph.model.graph.output:
            self.images.plain(output.name)
        return self.graph.finish(DOMAIN)

    def _in_blocks(self, node: NodeProto) -> bool:
        mark = next((self.graph.marks[name] for name in node.output if name in self.graph.marks), None)
        if mark and self._gradient(mark):
            return True
        if node.op_type == "Conv":
            return self._convolution(node)
        if node.op_type == "MaxPool":
            return self.poolings.max_pool(node)
        return _RULES.get(node.op_type, elementwise.elementwise)(self.images, node)

    def _gradient(self, mark: dict[str, Any]) -> bool:
        if mark["op"] == "inputs":
            return convolutions.input_gradient(self.images, mark)
        if mark["op"] == "weights":
            return weight_gradients.weight_gradient(self.images, mark)
        makes, product = mark["makes"], self.sunk.get(mark["makes"])
        is_made = self.poolings.gradient(mark, has_mask=product is not None)
        if is_made and product is not None:
            self.done[product] = self.images.names[makes]
        return is_made

    def _convolution(self, node: NodeProto) -> bool:
        relu = self.relus.get(node.output[0])
        made = convolutions.convolution(self.images, node, has_relu=relu is not None)
        if made is None:
            return False
        if relu is None:
            self.images.define(node.output[0], made)
        else:
            self.done[relu] = made
        return True


def _fusable_relus(graph: Rewriting, nodes: list[NodeProto]) -> dict[str, str]:
    """Return the output of each ReLU that is all that reads a convolution, by the convolution's output."""
    relus = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
    for node in nodes:
        # The signs of x and of max(x, 0) agree where it matters.
        if elementwise.is_step(node) and node.input[0] in relus:
            graph.uses[node.input[0]] -= 1
            node.input[0] = relus[node.input[0]]
    made = [node.output[0] for node in nodes if node.op_type == "Conv"]
    return {name: relus[name] for name in made if name in relus and graph.uses[name] == 1}


def _masked_poolings(graph: Rewriting, nodes: list[NodeProto]) -> dict[str, str]:
    """Return the product of each pooling's gradient with the mask of the ReLU before, by the gradient.

    The mask can be applied to the smaller gradient that it is made of.
    """
    makers = {name: node for node in nodes for name in node.output}
    pools = {mark["makes"]: mark["x"] for mark in graph.marks.values() if mark["op"] == "max_pool"}
    found = {}
    for node in nodes:
        if node.op_type != "Mul" or node.input[0] not in pools or graph.uses[node.input[0]] != 1:
            continue
        sign = makers.get(node.input[1])
        if sign is not None and elementwise.is_step(sign) and sign.input[0] == pools[node.input[0]]:
            found[node.input[0]] = node.output[0]
    return found
