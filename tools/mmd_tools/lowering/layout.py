"""Lowering rules: gradients of operators that move values without computing."""

import numpy as np
from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of, input_of, output_of


def slice_grad(e: Emitter, node: NodeProto) -> None:
    """y = x[starts:ends:steps]: dx = zeros with dy put back at the places that were read."""
    d_y, shape, starts, ends = node.input[:4]
    axes, steps = input_of(node, 4), input_of(node, 5)
    # Slicing the numbers of the places the same way tells where each element of dy came from.
    places = _places(e, shape)
    optional = [axes, steps] if steps else [axes] if axes else []
    read = e.emit("Slice", places, starts, ends, *optional)
    _scatter_add(e, d_y, read, shape, to=node.output[0])


def gather_grad(e: Emitter, node: NodeProto) -> None:
    """y = x gathered along an axis: dx[index] += dy."""
    shape, indices, d_y = node.input
    places = _places(e, shape)
    read = e.emit("Gather", places, indices, axis=int(attributes_of(node).get("axis", 0)))
    _scatter_add(e, d_y, read, shape, to=node.output[0])


def gather_elements_grad(e: Emitter, node: NodeProto) -> None:
    """y[i, j] = x[i, index[i, j]]: dx[i, index[i, j]] += dy[i, j]."""
    d_y, shape, indices = node.input
    zeros = e.emit("ConstantOfShape", shape)
    axis = int(attributes_of(node).get("axis", 0))
    e.emit("ScatterElements", zeros, indices, d_y, to=node.output[0], axis=axis, reduction="add")


def gather_nd_grad(e: Emitter, node: NodeProto) -> None:
    """y = x at index tuples: dx[index] += dy."""
    shape, indices, d_y = node.input
    read = e.emit("GatherND", _places(e, shape), indices, batch_dims=int(attributes_of(node).get("batch_dims", 0)))
    _scatter_add(e, d_y, read, shape, to=node.output[0])


def concat_training(e: Emitter, node: NodeProto) -> None:
    """y = the inputs one after another; also how long each is along the axis."""
    axis = int(attributes_of(node)["axis"])
    e.emit("Concat", *node.input, to=node.output[0], axis=axis)
    if lengths := output_of(node, 1):
        parts = [_length(e, tensor, axis % len(e.shape(tensor))) for tensor in node.input]
        e.emit("Concat", *parts, to=lengths, axis=0)


def split_training(e: Emitter, node: NodeProto) -> None:
    """The parts of x along the axis, with the given lengths."""
    x, lengths = node.input
    # A part that nobody asked for still needs a name.
    outputs = [output or e.fresh("Split") for output in node.output]
    e.emit_many("Split", [x, lengths], outputs, axis=int(attributes_of(node).get("axis", 0)))


def trilu(e: Emitter, node: NodeProto) -> None:
    """y = the upper or lower triangle of x, as ONNX has it since opset 14."""
    e.emit("Trilu", *node.input, to=node.output[0], upper=int(attributes_of(node).get("upper", 1)))


def _length(e: Emitter, tensor: str, axis: int) -> str:
    size = e.shape(tensor)[axis]
    if isinstance(size, int):
        return e.integers(size)
    return e.emit("Slice", e.emit("Shape", tensor), e.integers(axis), e.integers(axis + 1))


def _places(e: Emitter, shape: str) -> str:
    """A tensor of `shape` that holds 0, 1, 2, ...: the flat place of every element."""
    count = e.emit("ReduceProd", shape, keepdims=0)
    zero, one = e.constant(0, np.int64), e.constant(1, np.int64)
    return e.emit("Reshape", e.emit("Range", zero, count, one), shape)


def _scatter_add(e: Emitter, d_y: str, places: str, shape: str, *, to: str) -> None:
    zeros = e.emit("ConstantOfShape", e.emit("ReduceProd", shape, keepdims=1))
    flat = e.emit("ScatterElements", zeros, e.reshape(places, -1), e.reshape(d_y, -1), axis=0, reduction="add")
    e.emit("Reshape", flat, shape, to=to)
