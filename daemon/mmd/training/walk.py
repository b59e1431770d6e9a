"""Which nodes of a step graph run in another layout? A walk in the graph's order that asks a rule for each node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from onnx import ModelProto, NodeProto

from mmd.training.images import Images
from mmd.training.poolings import Poolings
from mmd.training.rewriting import Rewriting, is_step_function

_Twins = TypeVar("_Twins", bound=Images)
_Given = TypeVar("_Given", bound=Images, contravariant=True)


class _Convolution(Protocol[_Given]):
    def __call__(self, images: _Given, node: NodeProto, *, has_relu: bool) -> str | None: ...


@dataclass(frozen=True)
class Rules(Generic[_Twins]):
    """How a layout does each kind of node on its twins. A rule that says False, or None, leaves the node as it is."""

    convolution: _Convolution[_Twins]
    """Return the twin of what a convolution, and the ReLU after it, makes."""
    input_gradient: Callable[[_Twins, dict[str, Any]], bool]
    weight_gradient: Callable[[_Twins, dict[str, Any]], bool]
    by_operator: Mapping[str, Callable[[_Twins, NodeProto], bool]]
    other: Callable[[_Twins, NodeProto], bool]
    """For operators that are not in `by_operator`."""


class Walk(Generic[_Twins]):
    """Makes the step graph anew, with its images in the layout of `images` wherever a rule says how.

    The result has the inputs and outputs of the graph and their values but for rounding. Only what is marked as the
    gradient of a convolution or pooling (see `rewriting.MARKS`) is made anew; everything else is done alike or copied.
    """

    def __init__(self, graph: Rewriting, images: _Twins, rules: Rules[_Twins]) -> None:
        self._graph, self._twins, self._rules = graph, images, rules
        self._poolings = Poolings(images)
        nodes = list(graph.model.graph.node)
        self._relus = _fusable_relus(graph, nodes)
        self._sunk = _masked_poolings(graph, nodes)
        self._done: dict[str, str] = {}
        """What an earlier node made at once, by the output of the node that is left out."""

    def run(self, domain: str = "") -> ModelProto:
        """Return the new graph, with the operators of `domain`."""
        for node in self._graph.model.graph.node:
            if node.output[0] in self._done:
                self._twins.define(node.output[0], self._done[node.output[0]])
            elif not self._is_made(node):
                for name in node.input:
                    self._twins.plain(name)
                self._graph.nodes.append(node)
        for output in self._graph.model.graph.output:
            self._twins.plain(output.name)
        return self._graph.finish(domain)

    def _is_made(self, node: NodeProto) -> bool:
        mark = next((self._graph.marks[name] for name in node.output if name in self._graph.marks), None)
        if mark and self._gradient(mark):
            return True
        if node.op_type == "Conv":
            return self._with_relu(node)
        if node.op_type == "MaxPool":
            return self._poolings.max_pool(node)
        return self._rules.by_operator.get(node.op_type, self._rules.other)(self._twins, node)

    def _gradient(self, mark: dict[str, Any]) -> bool:
        if mark["op"] == "inputs":
            return self._rules.input_gradient(self._twins, mark)
        if mark["op"] == "weights":
            return self._rules.weight_gradient(self._twins, mark)
        makes, product = mark["makes"], self._sunk.get(mark["makes"])
        is_made = self._poolings.gradient(mark, has_mask=product is not None)
        if is_made and product is not None:
            self._done[product] = self._twins.names[makes]
        return is_made

    def _with_relu(self, node: NodeProto) -> bool:
        relu = self._relus.get(node.output[0])
        made = self._rules.convolution(self._twins, node, has_relu=relu is not None)
        if made is None:
            return False
        if relu is None:
            self._twins.define(node.output[0], made)
        else:
            self._done[relu] = made
        return True


def _fusable_relus(graph: Rewriting, nodes: Sequence[NodeProto]) -> dict[str, str]:
    """Return the output of each ReLU that is all that reads a convolution, by the convolution's output.

    The mask of such a ReLU's gradient reads the convolution, too: it is made to read the ReLU's output first.
    """
    relus = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
    for node in nodes:
        # The signs of x and of max(x, 0) agree where it matters.
        if is_step_function(node) and node.input[0] in relus:
            graph.uses[node.input[0]] -= 1
            node.input[0] = relus[node.input[0]]
    made = [node.output[0] for node in nodes if node.op_type == "Conv"]
    return {name: relus[name] for name in made if name in relus and graph.uses[name] == 1}


def _masked_poolings(graph: Rewriting, nodes: Sequence[NodeProto]) -> dict[str, str]:
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
        if sign is not None and is_step_function(sign) and sign.input[0] == pools[node.input[0]]:
            found[node.input[0]] = node.output[0]
    return found
