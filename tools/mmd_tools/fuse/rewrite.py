"""Which passes bring an exported network to the form that the training tools take? One function a pass."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.edit import BATCH

_TWO_BATCHES = (7, 11)
_SHAPE_ENTRIES = 64
"""A constant with more entries is a weight, not a shape."""


class Unfit(Exception):
    """The network cannot be brought to the form; the message says which node or tensor, and what would help."""


def drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Old exporters list the weights among the inputs; keep the real inputs only."""
    weights = edit.constants(model)
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    # Up to IR version 3 the checker demands the old style.
    model.ir_version = max(model.ir_version, 4)


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers."""
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            kept.append(node)
            continue
        entry = node.attribute[0]
        if entry.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(entry.t)
            tensor.name = node.output[0]
        elif entry.name in ("value_int", "value_ints"):
            tensor = numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.int64), node.output[0])
        elif entry.name in ("value_float", "value_floats"):
            tensor = numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.float32), node.output[0])
        else:
            raise Unfit(f"{edit.label(node)} holds a {entry.name}; only numbers fit.")
        model.graph.initializer.append(tensor)
    edit.replace_nodes(model, kept)


def convert_opset(model: onnx.ModelProto, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the model in `opset`: relabelled where every operator kept its meaning, converted otherwise."""
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if found != opset:
        del model.graph.value_info[:]
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except Exception as error:  # the converter raises RuntimeError and its own kinds alike
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = f"export it with opset {opset}"
            raise Unfit(f"opset {found} does not convert to {opset} ({reason}); {hint}.") from error
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = ir_version
    return model


def cut_trailing_softmax(model: onnx.ModelProto) -> None:
    """Make the input of a last Softmax or LogSoftmax the output: the losses need logits."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(graph.output[0].name)
    while node is not None and node.op_type in ("Softmax", "LogSoftmax", "Identity"):
        _name_output(model, node.input[0])
        node = makers.get(node.input[0])
    edit.remove_dead(model)


def _name_output(model: onnx.ModelProto, name: str) -> None:
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    del model.graph.output[:]
    model.graph.output.append(output)


def drop_identities(model: onnx.ModelProto) -> dict[str, str]:
    """Remove Identity and Dropout; return what each removed tensor is called now."""
    gone: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        if node.op_type in ("Identity", "Dropout"):
            gone[node.output[0]] = gone.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    edit.replace_nodes(model, kept)
    for old, new in gone.items():
        edit.replace_uses(model, old, new)
    return gone


def make_batch_symbolic(model: onnx.ModelProto) -> None:
    """Give the input the shape [N, ...]; a fixed batch of an exporter is forgotten, also in Reshape."""
    value = model.graph.input[0]
    dims = edit.dimensions(value)
    if not dims:
        raise Unfit(f"its input {value.name} has no shape; export it with one.")
    unknown = [str(dim) for dim in dims[1:] if not isinstance(dim, int)]
    if unknown:
        raise Unfit(f"its input {value.name} has the open dimension {unknown[0]}; export it with a fixed size.")
    fixed_batch = dims[0] if isinstance(dims[0], int) and dims[0] > 0 else None
    value.type.tensor_type.shape.dim[0].Clear()
    value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]
    _name_output(model, model.graph.output[0].name)
    if fixed_batch is not None:
        _free_reshapes(model, fixed_batch)


def _free_reshapes(model: onnx.ModelProto, fixed_batch: int) -> None:
    tensors = edit.constants(model)
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in tensors:
            continue
        target = np.array(edit.array(tensors[node.input[1]]), np.int64)
        if len(target) and target[0] == fixed_batch:
            # 0 copies the dimension of the input, which is the batch.
            target[0] = -1 if -1 not in target else 0
            node.input[1] = edit.add_constant(model, f"{node.input[1]}.free", target)


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write down every shape that can be known, and return the model. Raises `Unfit` on a contradiction.

    The shapes are inferred for two batch sizes: what stays the same is static, what follows the batch is the batch.
    A symbol would get lost in the arithmetic that exporters put before Reshape.
    """
    found = [_inferred(model, batch) for batch in _TWO_BATCHES]
    values = []
    for name, value in found[0].items():
        dims = _merged(edit.dimensions(value), edit.dimensions(found[1].get(name, value)))
        values.append(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, dims))
    output = model.graph.output[0].name
    del model.graph.value_info[:]
    del model.graph.output[:]
    model.graph.value_info.extend(value for value in values if value.name != output)
    model.graph.output.extend(value for value in values if value.name == output)
    if not model.graph.output:
        raise Unfit(f"the shape of its output {output} cannot be known.")
    return model


def _inferred(model: onnx.ModelProto, batch: int) -> dict[str, onnx.ValueInfoProto]:
    """Infer the shapes for one batch size, without carrying the weights along."""
    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    skeleton.graph.name = model.graph.name
    skeleton.graph.node.extend(model.graph.node)
    skeleton.graph.input.extend(model.graph.input)
    skeleton.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) > _SHAPE_ENTRIES:
            skeleton.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            skeleton.graph.initializer.append(tensor)
    output = model.graph.output[0]
    skeleton.graph.output.append(helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, None))
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise Unfit(f"its shapes contradict each other: {' '.join(str(error).split())}.") from error
    return {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}


def _merged(first: tuple[int | str, ...] | None, second: tuple[int | str, ...] | None) -> list[int | str | None] | None:
    if first is None or second is None or len(first) != len(second):
        return None
    merged: list[int | str | None] = []
    for one, other in zip(first, second, strict=True):
        is_batch = (one, other) == _TWO_BATCHES
        merged.append(BATCH if is_batch else one if one == other and isinstance(one, int) else None)
    return merged


def settle_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on constants alone, and give every Reshape a constant target; return the model."""
    for _ in range(4):
        _fold_constants(model)
        model = infer(model)
        if not _settle_reshapes(model):
            break
    edit.remove_dead(model)
    return infer(model)


def _fold_constants(model: onnx.ModelProto) -> None:
    """Replace nodes that read only initializers by their result."""
    from onnx.reference import ReferenceEvaluator

    tensors = edit.constants(model)
    kept = []
    for node in model.graph.node:
        if not node.input or any(name and name not in tensors for name in node.input):
            kept.append(node)
            continue
        feeds = {name: edit.array(tensors[name]) for name in node.input if name}
        results = ReferenceEvaluator(node, opsets={"": 17}).run(None, feeds)
        for name, result in zip(node.output, results, strict=False):
            tensor = numpy_helper.from_array(np.ascontiguousarray(result), name)
            tensors[name] = tensor
            model.graph.initializer.append(tensor)
    edit.replace_nodes(model, kept)


def _settle_reshapes(model: onnx.ModelProto) -> bool:
    """Give each Reshape with a computed target the constant that shape inference found; True when one changed."""
    tensors = edit.constants(model)
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    changed = False
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] in tensors or node.output[0] not in values:
            continue
        dims = edit.dimensions(values[node.output[0]])
        if not dims or dims[0] != BATCH or not all(isinstance(dim, int) for dim in dims[1:]):
            continue
        target = np.array([-1, *dims[1:]], np.int64)
        node.input[1] = edit.add_constant(model, f"{node.output[0]}.shape", target)
        changed = True
    edit.remove_dead(model)
    return changed


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
    scale = weight / np.sqrt(variance + float(str(edit.attribute(node, "epsilon", 1e-5))))
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


def decompose(model: onnx.ModelProto) -> None:
    """Rewrite the operators of the DECOMPOSITIONS table into others that have gradients."""
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rule = DECOMPOSITIONS.get(node.op_type)
        kept.extend(rule(model, node) if rule else [node])
    edit.replace_nodes(model, kept)


def _scalar(model: onnx.ModelProto, node: onnx.NodeProto, name: str, value: float) -> str:
    return edit.add_constant(model, f"{node.output[0]}.{name}", np.array(value, np.float32))


def _hard_sigmoid(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(0, min(1, alpha x + beta))"""
    slope = float(str(edit.attribute(node, "alpha", 0.2)))
    offset = float(str(edit.attribute(node, "beta", 0.5)))
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


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: the gradient builder tells nodes apart by it."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def refuse_unknown_shapes(model: onnx.ModelProto) -> None:
    """Raise `Unfit` for the first tensor whose size, the batch apart, is not known before it runs."""
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    for node in model.graph.node:
        for name in node.output:
            dims = edit.dimensions(values[name]) if name in values else None
            if name and (dims is None or any(not isinstance(dim, int) and dim != BATCH for dim in dims)):
                raise Unfit(
                    f"the shape of {name}, made by {edit.label(node)}, is {list(dims) if dims else 'unknown'}; "
                    "only the batch may be open: export it with fixed sizes."
                )
