"""How does BatchNormalization disappear? Into the weights before it, or into a Mul and an Add.

y = x * scale + shift, with scale = weight / sqrt(variance + epsilon) and shift = bias - mean * scale.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit


def fold_batch_normalization(model: onnx.ModelProto) -> dict[str, str]:
    """Fold BatchNormalization into the Conv or Gemm before it, or make it a Mul and an Add; return what is gone."""
    users = edit.consumers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    gone: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            kept.append(node)
            continue
        scale, shift = _scale_and_shift(model, node)
        before = makers.get(node.input[0])
        is_alone = len(users.get(node.input[0], [])) == 1 and node.input[0] not in outputs
        if before is not None and is_alone and _fold_into(model, before, scale, shift):
            gone[node.input[0]] = node.output[0]
            before.output[0] = node.output[0]
            makers[node.output[0]] = before
        else:
            kept.extend(_as_mul_and_add(model, node, scale, shift))
    edit.replace_nodes(model, kept)
    return gone


def _scale_and_shift(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    tensors = edit.constants(model)
    missing = [name for name in node.input[1:] if name not in tensors]
    if missing:
        raise Unfit(f"{edit.label(node)} takes {missing[0]} from the graph; its statistics must be constants.")
    weight, bias, mean, variance = (edit.array(tensors[name]).astype(np.float64) for name in node.input[1:5])
    scale = weight / np.sqrt(variance + edit.number(node, "epsilon", 1e-5))
    return scale, bias - mean * scale


def _fold_into(model: onnx.ModelProto, before: onnx.NodeProto, scale: np.ndarray, shift: np.ndarray) -> bool:
    """Put y * scale + shift into the weights of `before`; False when it is no Conv or plain Gemm with constants."""
    tensors = edit.constants(model)
    if before.op_type == "Gemm":
        if edit.attribute(before, "alpha", 1.0) != 1.0 or edit.attribute(before, "beta", 1.0) != 1.0:
            return False
        axis = 0 if edit.attribute(before, "transB", 0) else 1
    elif before.op_type == "Conv":
        axis = 0
    else:
        return False
    names = [name for name in before.input[1:] if name]
    if any(name not in tensors for name in names):
        return False
    weight = edit.array(tensors[names[0]]).astype(np.float64)
    along = [1] * weight.ndim
    along[axis] = -1
    bias = edit.array(tensors[names[1]]).astype(np.float64) if len(names) > 1 else np.zeros_like(shift)
    new_weight = (weight * scale.reshape(along)).astype(np.float32)
    new_bias = (bias * scale + shift).astype(np.float32)
    fresh_bias = f"{names[0].removesuffix('.weight')}.bias"
    before.input[1] = _replace_or_add(model, names[0], new_weight)
    bias_name = _replace_or_add(model, names[1], new_bias) if len(names) > 1 else None
    del before.input[2:]
    before.input.append(bias_name or edit.add_constant(model, fresh_bias, new_bias))
    return True


def _replace_or_add(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    """Change the initializer in place when one node reads it; otherwise add a changed copy. Return its name."""
    readers = edit.consumers(model).get(name, [])
    if len(readers) > 1:
        return edit.add_constant(model, f"{name}.folded", value)
    edit.constants(model)[name].CopyFrom(numpy_helper.from_array(value, name))
    return name


def _as_mul_and_add(
    model: onnx.ModelProto, node: onnx.NodeProto, scale: np.ndarray, shift: np.ndarray
) -> list[onnx.NodeProto]:
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.input]}
    rank = len(edit.dimensions(values[node.input[0]]) or ())
    shape = (-1,) + (1,) * (rank - 2)
    out = node.output[0]
    scale_name = edit.add_constant(model, f"{out}.scale", scale.reshape(shape).astype(np.float32))
    shift_name = edit.add_constant(model, f"{out}.shift", shift.reshape(shape).astype(np.float32))
    return [
        helper.make_node("Mul", [node.input[0], scale_name], [f"{out}.scaled"]),
        helper.make_node("Add", [f"{out}.scaled", shift_name], [out]),
    ]
