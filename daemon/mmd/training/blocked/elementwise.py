"""Which of the other operators can stay in blocks? Element by element, joins, and sums over places."""

from math import prod

from onnx import NodeProto

from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import attributes_of, is_step_function

_KEEPS_ZERO = {"Relu", "Mul", "Add", "Sub", "Neg", "Sum", "Max", "Min", "Sign", "Abs", "Tanh", "Greater", "Cast"}
"""Element-wise operators that make 0 (or false) of zeros, so that what fills a block up stays harmless."""
_KEEPS_ZERO_WITH_SCALAR = {"Mul", "Greater"}


def elementwise(images: Blocked, node: NodeProto) -> bool:
    """Compute on the blocked twins when one input has no other form; scalars are the same in both."""
    graph, shape = images.graph, images.graph.shapes.get(node.output[0])
    keeps_zero = node.op_type in _KEEPS_ZERO or is_step_function(node)
    if not keeps_zero or not any(name in images.names for name in node.input):
        return False
    known = {name: graph.shapes.get(name) for name in node.input}
    scalars = {name for name, size in known.items() if size is not None and prod(size) == 1}
    for name in node.input:
        if name in scalars:
            continue
        if shape is None or known[name] != shape:
            return False
        if name not in images.names and name in graph.booleans:
            return False
    is_whole = shape is not None and shape[1] % images.block == 0
    if scalars and not is_whole and node.op_type not in _KEEPS_ZERO_WITH_SCALAR:
        return False
    inputs = [images.plain(name) if name in scalars else images.twin(name) for name in node.input]
    images.define(node.output[0], graph.emit(node.op_type, *inputs, **attributes_of(node)))
    return True


def concat(images: Blocked, node: NodeProto) -> bool:
    """Join along the channels when every part is whole blocks."""
    sizes = [images.size(name) for name in node.input]
    if attributes_of(node)["axis"] != 1 or not any(name in images.only_twins for name in node.input):
        return False
    if any(size is None or size[1] % images.block for size in sizes):
        return False
    parts = [images.twin(name) for name in node.input]
    images.define(node.output[0], images.graph.emit("Concat", *parts, axis=1))
    return True


def global_average(images: Blocked, node: NodeProto) -> bool:
    """The mean of each channel's places, when they lie in blocks anyway."""
    if node.input[0] not in images.only_twins:
        return False
    made = images.graph.emit("GlobalAveragePool", images.twin(node.input[0]), domain=DOMAIN)
    images.define(node.output[0], made)
    return True


def bias_gradient(images: Blocked, node: NodeProto) -> bool:
    """Sum over the batch and the places."""
    graph, x = images.graph, node.input[0]
    size = images.size(x)
    axes = graph.value(node.input[1]) if len(node.input) > 1 else None
    if x not in images.names or size is None or axes is None or attributes_of(node).get("keepdims", 1):
        return False
    rank = len(graph.shapes[x] or ())
    if sorted(axes.tolist()) != [0, *range(2, rank)]:
        return False
    n, channels, high, wide = size
    padded = images.padded(channels)
    places = graph.reshape(images.twin(x), n * padded // images.block, high * wide, images.block)
    rows = graph.reshape(graph.emit("ReduceSum", places, graph.integers(1), keepdims=0), n, padded)
    is_whole = padded == channels
    total = graph.emit("ReduceSum", rows, graph.integers(0), keepdims=0, out=node.output[0] if is_whole else None)
    if not is_whole:
        graph.emit("Slice", total, graph.integers(0), graph.integers(channels), out=node.output[0])
    return True
