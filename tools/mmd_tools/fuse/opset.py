"""How does a network of another opset become one of opset 17? Older ones by onnx's converter, newer ones here."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import activations, edit, steps
from mmd_tools.fuse.decompose import rewritten
from mmd_tools.fuse.instance_norm import group_normalization
from mmd_tools.fuse.rewrite import Unfit

_LARGEST_KEPT = 64
"""Entries; a bigger constant is a weight, of which only the shape matters."""

Rule = Callable[[onnx.ModelProto, onnx.NodeProto], list[onnx.NodeProto]]


def convert_opset(model: onnx.ModelProto, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the model in `opset`. Raises `Unfit` naming the first node that it cannot say in that opset."""
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    newest = onnx.defs.onnx_opset_version()
    if found > newest:
        raise Unfit(f"opset {found} is newer than {newest}, the newest that is known here; export it with {opset}.")
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
    skeleton, weights = _without_weights(model)
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(skeleton, opset)
    except Exception as error:  # the converter raises RuntimeError and its own kinds alike
        # The converter's own words begin with a line of its source.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rpartition("failed: ")[2].rstrip(".")
        raise Unfit(f"opset {found} does not convert to {opset} ({reason}); export it with opset {opset}.") from error
    for name, place in weights.items():
        converted.graph.initializer.append(model.graph.initializer[place])
        index = next(i for i, value in enumerate(converted.graph.input) if value.name == name)
        del converted.graph.input[index]
    return converted


def _without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Return the model with its weights as inputs, and where each of them is: the converter copies what it is given."""
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    graph = skeleton.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    weights = {}
    for index, tensor in enumerate(model.graph.initializer):
        if np.prod(tensor.dims) > _LARGEST_KEPT:
            weights[tensor.name] = index
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return skeleton, weights


def _downgrade(model: onnx.ModelProto, found: int, opset: int) -> None:
    """Rewrite what the older opset says otherwise; let the rest be where the older schema takes it as it is.

    onnx's own converter lacks the way down for operators as common as Pad and Split.
    """
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rule = OLDER_FORMS.get(node.op_type)
        kept.extend(rule(model, node) if rule else [node])
    for node in kept:
        _drop_new_defaults(node, found, opset)
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


def _drop_new_defaults(node: onnx.NodeProto, found: int, opset: int) -> None:
    """Drop attributes that the older schema lacks where they say what the newer one takes anyway."""
    try:
        newer, older = (onnx.defs.get_schema(node.op_type, version) for version in (found, opset))
    except onnx.defs.SchemaError:
        return
    unknown = {entry.name: entry for entry in node.attribute if entry.name not in older.attributes}
    idle = {
        name
        for name, entry in unknown.items()
        if name in newer.attributes
        and helper.get_attribute_value(entry) == helper.get_attribute_value(newer.attributes[name].default_value)
    }
    _drop_attributes(node, idle)


def _drop_attributes(node: onnx.NodeProto, names: set[str]) -> None:
    kept = [entry for entry in node.attribute if entry.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


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
    _drop_attributes(node, {"num_outputs"})
    return [node]


def _pad(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Since opset 18 pads may name the axes they are for; before they were for all of them."""
    axes, pads = _constant(model, node, 3), _constant(model, node, 1)
    if axes is None or pads is None:
        return [node]
    rank = _rank(model, node.input[0])
    if rank is None:
        raise Unfit(f"{edit.label(node)} names axes of a tensor whose shape is not known; export it with opset 17.")
    whole = np.zeros((2, rank), np.int64)
    whole[:, axes.astype(np.int64)] = pads.reshape(2, -1)
    older = onnx.NodeProto()
    older.CopyFrom(node)
    older.input[1] = edit.add_constant(model, f"{node.output[0]}.pads", whole.ravel())
    del older.input[3:]
    return [older]


def _average_pool(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Since opset 19 it may dilate; all ones mean that it does not."""
    dilations = edit.attribute(node, "dilations", [])
    if isinstance(dilations, list) and set(dilations) <= {1}:
        _drop_attributes(node, {"dilations"})
    return [node]


def _rank(model: onnx.ModelProto, tensor: str) -> int | None:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    for value in [*inferred.input, *inferred.value_info]:
        if value.name == tensor and value.type.tensor_type.HasField("shape"):
            return len(value.type.tensor_type.shape.dim)
    return None


def _constant(model: onnx.ModelProto, node: onnx.NodeProto, index: int) -> edit.Array | None:
    """Return the constant that the node takes at `index`, None when it takes nothing there."""
    if index >= len(node.input) or not node.input[index]:
        return None
    tensor = edit.constants(model).get(node.input[index])
    if tensor is None:
        raise Unfit(f"{edit.label(node)} takes {node.input[index]} from the graph; it must be a constant.")
    return edit.array(tensor)


def _by(rule: steps.Rule) -> Rule:
    return lambda model, node: rewritten(model, node, rule)


_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
    *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSumSquare"),
)

OLDER_FORMS: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "AveragePool": _average_pool,
    "Gelu": _by(activations.gelu),
    "GroupNormalization": _by(group_normalization),
    "Mish": _by(activations.mish),
    "Pad": _pad,
    "Split": _split,
}
