"""Which shapes does a network have? The batch is open and called N; all else is made static, or refused by name."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.edit import BATCH
from mmd_tools.fuse.rewrite import Unfit, name_output
from mmd_tools.fuse.settle import settle_by_running

_TWO_BATCHES = (7, 11)
_SHAPE_ENTRIES = 64
"""A constant with more entries is a weight, not a shape."""


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
    name_output(model, model.graph.output[0].name)
    if fixed_batch is not None:
        _free_reshapes(model, fixed_batch)
        _free_resizes(model, fixed_batch)


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


def _free_resizes(model: onnx.ModelProto, fixed_batch: int) -> None:
    """Let a Resize to fixed sizes take the batch from its input."""
    tensors = edit.constants(model)
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        sizes = tensors.get(node.input[3]) if node.op_type == "Resize" and len(node.input) > 3 else None
        if sizes is not None and edit.array(sizes)[0] == fixed_batch:
            rest, out = edit.add_constant(model, f"{node.output[0]}.rest", edit.array(sizes)[1:]), node.output[0]
            kept.append(helper.make_node("Shape", [node.input[0]], [f"{out}.batch"], start=0, end=1))
            kept.append(helper.make_node("Concat", [f"{out}.batch", rest], [f"{out}.sizes"], axis=0))
            node.input[3] = f"{out}.sizes"
        kept.append(node)
    edit.replace_nodes(model, kept)


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
        merged.append(_merged_size(one, other))
    return merged


def _merged_size(one: int | str, other: int | str) -> int | str | None:
    """Return the size itself, `N`, `2*N` for what holds two a sample (the heads of attention), or None."""
    if not isinstance(one, int) or not isinstance(other, int):
        return None
    times, rest = divmod(one, _TWO_BATCHES[0])
    if one != other and not rest and other == times * _TWO_BATCHES[1]:
        return BATCH if times == 1 else f"{times}*{BATCH}"
    return one if one == other else None


def settle_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on constants alone, and give every Reshape a constant target; return the model."""
    for _ in range(4):
        _fold_constants(model)
        model = infer(model)
        if not _settle_reshapes(model) and not settle_by_running(model):
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


def refuse_unknown_shapes(model: onnx.ModelProto) -> None:
    """Raise `Unfit` for the first tensor whose size, the batch apart, is not known before it runs."""
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    for node in model.graph.node:
        for name in node.output:
            dims = edit.dimensions(values[name]) if name in values else None
            if name and (dims is None or any(dim == "?" for dim in dims)):
                raise Unfit(
                    f"the shape of {name}, made by {edit.label(node)}, is {list(dims) if dims else 'unknown'}; "
                    "only the batch may be open: export it with fixed sizes."
                )
