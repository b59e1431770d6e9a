"""Which operators are said in others that have gradients? One rule an operator, in one table."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.recurrent import GATES, unroll


def decompose(model: onnx.ModelProto, *, is_trained: bool) -> None:
    """Rewrite the operators of the DECOMPOSITIONS table into others that have gradients, and unroll what is trained."""
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rule = unroll if is_trained and node.op_type in GATES else DECOMPOSITIONS.get(node.op_type)
        if not is_trained and node.op_type in ONLY_TRAINED:
            rule = None
        kept.extend(rule(model, node) if rule else [node])
    edit.replace_nodes(model, kept)


def _scalar(model: onnx.ModelProto, node: onnx.NodeProto, name: str, value: float) -> str:
    return edit.add_constant(model, f"{node.output[0]}.{name}", np.array(value, np.float32))


def _hard_sigmoid(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(0, min(1, alpha x + beta))"""
    slope = edit.number(node, "alpha", 0.2)
    offset = edit.number(node, "beta", 0.5)
    return _clipped_line(model, node, slope, offset, node.output[0])


def _hard_swish(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x max(0, min(1, x / 6 + 1/2))"""
    out = node.output[0]
    return [
        *_clipped_line(model, node, 1 / 6, 0.5, f"{out}.gate"),
        helper.make_node("Mul", [node.input[0], f"{out}.gate"], [out]),
    ]


def _clipped_line(
    model: onnx.ModelProto, node: onnx.NodeProto, slope: float, offset: float, out: str
) -> list[onnx.NodeProto]:
    base = node.output[0]
    low, high = _scalar(model, node, "low", 0.0), _scalar(model, node, "high", 1.0)
    return [
        helper.make_node("Mul", [node.input[0], _scalar(model, node, "slope", slope)], [f"{base}.line"]),
        helper.make_node("Add", [f"{base}.line", _scalar(model, node, "offset", offset)], [f"{base}.shifted"]),
        helper.make_node("Clip", [f"{base}.shifted", low, high], [out]),
    ]


def _global_max_pool(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A MaxPool whose window is the whole map."""
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.input]}
    dims = edit.dimensions(values[node.input[0]]) or ()
    return [helper.make_node("MaxPool", list(node.input), list(node.output), kernel_shape=list(dims[2:]))]


class _Steps:
    """Collects the nodes that a node becomes; the last one makes its output."""

    def __init__(self, model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        self.model, self.out = model, node.output[0]
        self.nodes: list[onnx.NodeProto] = []

    def emit(self, op: str, *inputs: str, last: bool = False) -> str:
        name = self.out if last else f"{self.out}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name]))
        return name

    def scalar(self, value: float) -> str:
        return edit.add_constant(self.model, f"{self.out}.constant", np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return edit.add_constant(self.model, f"{self.out}.integers", np.array(values, np.int64))

    def below(self, x: str) -> str:
        """max(-x, 0)"""
        return self.emit("Relu", self.emit("Neg", x))

    def softplus(self, x: str, *, last: bool = False) -> str:
        bend = self.emit("Exp", self.emit("Neg", self.emit("Abs", x)))
        log = self.emit("Log", self.emit("Add", bend, self.scalar(1.0)))
        return self.emit("Add", self.emit("Relu", x), log, last=last)


def _elu(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(x, 0) + alpha (exp(min(x, 0)) - 1)"""
    s, x = _Steps(model, node), node.input[0]
    fall = s.emit("Sub", s.emit("Exp", s.emit("Neg", s.below(x))), s.scalar(1.0))
    scaled = s.emit("Mul", fall, s.scalar(edit.number(node, "alpha", 1.0)))
    s.emit("Add", s.emit("Relu", x), scaled, last=True)
    return s.nodes


def _softplus(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(x, 0) + log(1 + exp(-abs x))"""
    s = _Steps(model, node)
    s.softplus(node.input[0], last=True)
    return s.nodes


def _softsign(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x / (1 + abs x)"""
    s, x = _Steps(model, node), node.input[0]
    s.emit("Div", x, s.emit("Add", s.emit("Abs", x), s.scalar(1.0)), last=True)
    return s.nodes


def _prelu(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(x, 0) - slope max(-x, 0); the slope is trained when it has more than one entry"""
    s, x = _Steps(model, node), node.input[0]
    s.emit("Sub", s.emit("Relu", x), s.emit("Mul", s.below(x), node.input[1]), last=True)
    return s.nodes


def _reciprocal(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """1 / x"""
    s = _Steps(model, node)
    s.emit("Div", s.scalar(1.0), node.input[0], last=True)
    return s.nodes


def _sum(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """one Add after another"""
    s, total = _Steps(model, node), node.input[0]
    for index, name in enumerate(node.input[1:], start=2):
        total = s.emit("Add", total, name, last=index == len(node.input))
    if not s.nodes:
        s.emit("Reshape", total, s.integers(0, -1), last=True)
    return s.nodes


def _lrn(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x / (bias + alpha / size * the sum of squares over `size` channels around) ^ beta"""
    s, x = _Steps(model, node), node.input[0]
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.input]}
    dims = edit.dimensions(values[x]) or ()
    size, channels, rest = int(edit.whole(node, "size", 1)), int(dims[1]), [0] * (len(dims) - 2)
    pads = s.integers(0, (size - 1) // 2, *rest, 0, size // 2, *rest)
    padded = s.emit("Pad", s.emit("Mul", x, x), pads)
    axis = s.integers(1)
    total = ""
    for start in range(size):
        part = s.emit("Slice", padded, s.integers(start), s.integers(start + channels), axis)
        total = s.emit("Add", total, part) if total else part
    share = s.emit("Mul", total, s.scalar(edit.number(node, "alpha", 1e-4) / size))
    level = s.emit("Add", share, s.scalar(edit.number(node, "bias", 1.0)))
    s.emit("Div", x, s.emit("Pow", level, s.scalar(edit.number(node, "beta", 0.75))), last=True)
    return s.nodes


DECOMPOSITIONS: dict[str, Callable[[onnx.ModelProto, onnx.NodeProto], list[onnx.NodeProto]]] = {
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "GlobalMaxPool": _global_max_pool,
    "LRN": _lrn,
    "PRelu": _prelu,
    "Reciprocal": _reciprocal,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Sum": _sum,
}

ONLY_TRAINED = DECOMPOSITIONS.keys() - {"GlobalMaxPool", "HardSigmoid", "HardSwish"}
"""A Mentor's are left as they are: it needs no gradient."""
