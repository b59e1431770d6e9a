"""How does a network of another opset become one of opset 17? Older ones by onnx's converter, newer ones here."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit

Rule = Callable[[onnx.ModelProto, onnx.NodeProto], list[onnx.NodeProto]]


def convert_opset(model: onnx.ModelProto, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the model in `opset`. Raises `Unfit` naming the first node that it cannot say in that opset."""
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if found > opset:
        _downgrade(model, found, opset)
    elif found < opset:
        model = _upgrade(model, found, opset)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = ir_version
    return model


def _upgrade(model: onnx.ModelProto, found: int, opset: int) -> onnx.ModelProto:
    del model.graph.value_info[:]
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises RuntimeError and its own kinds alike
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unfit(f"opset {found} does not convert to {opset} ({reason}); export it with opset {opset}.") from error


def _downgrade(model: onnx.ModelProto, found: int, opset: int) -> None:
    """Rewrite what the older opset says otherwise; let the rest be where the older schema takes it as it is.

    onnx's own converter lacks the way down for operators as common as Pad and Split.
    """
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rule = OLDER_FORMS.get(node.op_type)
        kept.extend(rule(model, node) if rule else [node])
    for node in kept:
        if not _is_taken(node, opset):
            raise Unfit(
                f"{edit.label(node)} of opset {found} cannot be said in opset {opset}; export it with opset {opset}."
            )
    edit.replace_nodes(model, kept)


def _is_taken(node: onnx.NodeProto, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return False
    fits = len(node.input) <= schema.max_input and len(node.output) <= schema.max_output
    return fits and all(entry.name in schema.attributes for entry in node.attribute)


def _reduce(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Since opset 18 the axes are an input; before they were an attribute."""
    kept = [entry for entry in node.attribute if entry.name != "noop_with_empty_axes"]
    axes = _constant(model, node, 1)
    is_noop = axes is None and edit.attribute(node, "noop_with_empty_axes", 0)
    if is_noop:
        return [helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name)]
    older = helper.make_node(node.op_type, [node.input[0]], list(node.output), name=node.name)
    older.attribute.extend(kept)
    if axes is not None:
        older.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    return [older]


def _split(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """`num_outputs` is said by the number of outputs; both mean equal parts, and 17 refuses a remainder."""
    older = onnx.NodeProto()
    older.CopyFrom(node)
    del older.attribute[:]
    older.attribute.extend(entry for entry in node.attribute if entry.name != "num_outputs")
    return [older]


def _gelu(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x / 2 (1 + erf(x / sqrt 2)); or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) where `approximate` says so."""
    x, out = node.input[0], node.output[0]

    def scalar(name: str, value: float) -> str:
        return edit.add_constant(model, f"{out}.{name}", np.array(value, np.float32))

    if edit.attribute(node, "approximate", b"none") == b"tanh":
        curve = [
            helper.make_node("Mul", [x, x], [f"{out}.square"]),
            helper.make_node("Mul", [f"{out}.square", scalar("cubic", 0.044715)], [f"{out}.scaled"]),
            helper.make_node("Add", [f"{out}.scaled", scalar("one", 1.0)], [f"{out}.factor"]),
            helper.make_node("Mul", [x, f"{out}.factor"], [f"{out}.inner"]),
            helper.make_node("Mul", [f"{out}.inner", scalar("root", float(np.sqrt(2 / np.pi)))], [f"{out}.argument"]),
            helper.make_node("Tanh", [f"{out}.argument"], [f"{out}.curve"]),
        ]
    else:
        curve = [
            helper.make_node("Mul", [x, scalar("root", float(np.sqrt(0.5)))], [f"{out}.argument"]),
            helper.make_node("Erf", [f"{out}.argument"], [f"{out}.curve"]),
        ]
    return [
        *curve,
        helper.make_node("Add", [f"{out}.curve", scalar("unit", 1.0)], [f"{out}.sum"]),
        helper.make_node("Mul", [f"{out}.sum", x], [f"{out}.double"]),
        helper.make_node("Mul", [f"{out}.double", scalar("half", 0.5)], [out]),
    ]


def _mish(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x tanh(softplus x)"""
    x, out = node.input[0], node.output[0]
    return [
        helper.make_node("Softplus", [x], [f"{out}.softplus"]),
        helper.make_node("Tanh", [f"{out}.softplus"], [f"{out}.gate"]),
        helper.make_node("Mul", [x, f"{out}.gate"], [out]),
    ]


def _constant(model: onnx.ModelProto, node: onnx.NodeProto, index: int) -> edit.Array | None:
    """Return the constant that the node takes at `index`, None when it takes nothing there."""
    if index >= len(node.input) or not node.input[index]:
        return None
    tensor = edit.constants(model).get(node.input[index])
    if tensor is None:
        raise Unfit(f"{edit.label(node)} takes {node.input[index]} from the graph; it must be a constant.")
    return edit.array(tensor)


_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")

OLDER_FORMS: dict[str, Rule] = {**dict.fromkeys(_REDUCTIONS, _reduce), "Split": _split, "Gelu": _gelu, "Mish": _mish}
