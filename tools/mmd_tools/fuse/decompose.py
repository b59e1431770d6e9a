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


DECOMPOSITIONS: dict[str, Callable[[onnx.ModelProto, onnx.NodeProto], list[onnx.NodeProto]]] = {
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "GlobalMaxPool": _global_max_pool,
}
