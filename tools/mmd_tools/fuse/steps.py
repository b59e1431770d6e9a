"""How is one operator said in others? What every rewriting rule writes with: nodes, constants, shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit


class Steps:
    """Collects the nodes that one node becomes; the last one makes its output."""

    def __init__(self, model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        self.model, self.node, self.out = model, node, node.output[0]
        self.nodes: list[onnx.NodeProto] = []

    @property
    def x(self) -> str:
        """The first input of the node."""
        return str(self.node.input[0])

    def emit(self, op: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        name = self.out if last else f"{self.out}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def scalar(self, value: float) -> str:
        return edit.add_constant(self.model, f"{self.out}.constant", np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return edit.add_constant(self.model, f"{self.out}.integers", np.array(values, np.int64))

    def given(self, index: int) -> edit.Array:
        """Return the constant that the node reads at `index`. Raises `Unfit` where it is computed."""
        name = self.node.input[index]
        tensor = edit.constants(self.model).get(name)
        if tensor is None:
            raise Unfit(f"{edit.label(self.node)} takes {name} from the graph; it must be a constant.")
        return edit.array(tensor)

    def sizes(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of `tensor` without the batch; sizes that are not known yet are refused later."""
        values = {value.name: value for value in [*self.model.graph.value_info, *self.model.graph.input]}
        dims = edit.dimensions(values[tensor]) if tensor in values else None
        return tuple(dim if isinstance(dim, int) else 0 for dim in (dims or ())[1:])

    def mean(self, x: str, axes: Sequence[int]) -> str:
        return self.emit("ReduceMean", x, axes=list(axes), keepdims=1)

    def below(self, x: str) -> str:
        """max(-x, 0)"""
        return self.emit("Relu", self.emit("Neg", x))

    def reshape(self, x: str, *sizes: int, last: bool = False) -> str:
        """Reshape each sample to `sizes`; the batch stays."""
        return self.emit("Reshape", x, self.integers(0, *sizes), last=last)


Rule = Callable[[Steps], object]
"""Says a node in others; its docstring is the formula, which the documentation shows."""
