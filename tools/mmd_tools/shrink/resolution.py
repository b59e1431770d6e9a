"""How does a network work on a smaller picture of the same input? Its first layer pools the input down."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mmd.errors import UsageError
from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network, known_shapes
from mmd_tools.fuse.rewrite import name_output
from mmd_tools.fuse.shapes import infer

_POOLED = "input.pooled"


def lower_resolution(network: Network, factor: float) -> onnx.ModelProto:
    """Return the network behind an AveragePool of 1 / `factor`; rows that read a flattened map add up its places.

    Raises `UsageError` where 1 / `factor` is no whole number, or the picture is no map or too small for it.
    """
    size = round(1 / factor)
    if abs(size * factor - 1) > 1e-3 or len(network.input_shape) != 3 or min(network.input_shape[1:]) < 2 * size:
        raise UsageError(
            f"A resolution of {factor:g} does not fit the input {list(network.input_shape)}; give 1, 0.5, 0.25, ... "
            "and a map that is large enough."
        )
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    edit.replace_uses(model, network.input, _POOLED)
    pool = helper.make_node("AveragePool", [network.input], [_POOLED], kernel_shape=[size] * 2, strides=[size] * 2)
    edit.replace_nodes(model, [pool, *model.graph.node])
    flattened = _free_flattened(model, network)
    name_output(model, network.logits)
    del model.graph.value_info[:]
    shapes = known_shapes(_inferred(model, factor))
    for name, source in flattened.items():
        _add_up(model, name, network.shapes[source], shapes[source])
    return model


def _inferred(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    from mmd_tools.fuse.rewrite import Unfit

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    # What reads the rows still has its old size: stop before it.
    first = {node.output[0] for node in copied.graph.node if node.op_type == "Flatten"}
    if first:
        name_output(copied, sorted(first)[0])
        edit.remove_dead(copied)
    try:
        return infer(copied)
    except Unfit as error:
        raise UsageError(f"The resolution {factor:g} does not fit the network: {error}") from error


def _free_flattened(model: onnx.ModelProto, network: Network) -> dict[str, str]:
    """Make every Reshape of a map to a row a Flatten; return the map behind each row."""
    rows = {}
    for node in model.graph.node:
        source = node.input[0] if node.input else ""
        is_flat = node.op_type in ("Flatten", "Reshape", "Squeeze") and len(network.shapes.get(source, ())) == 3
        if is_flat and len(network.shapes.get(node.output[0], ())) == 1:
            node.CopyFrom(helper.make_node("Flatten", [source], list(node.output), name=node.name, axis=1))
            rows[node.output[0]] = source
    return rows


def _add_up(model: onnx.ModelProto, row: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Give each place of the smaller map the sum of the weights of the places that it stands for."""
    if before == after:
        return
    tensors = edit.constants(model)
    for node in model.graph.node:
        if node.input[0] != row:
            continue
        weight = tensors.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if weight is None:
            raise UsageError(f"A lower resolution does not fit: {edit.label(node)} reads the flattened map {row}.")
        axis = 1 if edit.whole(node, "transB", 0) else 0
        value = np.moveaxis(edit.array(weight), axis, 0)
        wide = value.reshape(*before, -1)
        small = np.zeros((*after, wide.shape[-1]), np.float32)
        rows = np.arange(before[1]) * after[1] // before[1]
        columns = np.arange(before[2]) * after[2] // before[2]
        for y, to_y in enumerate(rows):
            for x, to_x in enumerate(columns):
                small[:, to_y, to_x] += wide[:, y, x]
        summed = np.moveaxis(small.reshape(-1, wide.shape[-1]), 0, axis)
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(summed), weight.name))
