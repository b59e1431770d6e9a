"""Which of the other operators leave the samples side by side? Element by element, joins, and sums over places."""

from math import prod

import numpy as np
from onnx import NodeProto

from mmd.training.batch_last.images import BatchLast
from mmd.training.rewriting import Shape, attributes_of

_ELEMENTWISE = {"Abs", "Add", "Cast", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Greater", "HardSigmoid", "Less"}
_ELEMENTWISE |= {"LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "Not", "Pow", "Relu", "Sigmoid", "Sign", "Sin"}
_ELEMENTWISE |= {"Sqrt", "Sub", "Sum", "Tanh", "Where"}


def elementwise(images: BatchLast, node: NodeProto) -> bool:
    """Compute on the twins when one input has no other form; one number, or one a channel, is the same in both."""
    graph, shape = images.graph, images.graph.shapes.get(node.output[0])
    size = images.size(node.output[0])
    if node.op_type not in _ELEMENTWISE or shape is None or size is None:
        return False
    if not any(name in images.names for name in node.input):
        return False
    inputs = []
    for name in node.input:
        known = graph.shapes.get(name) if name else ()
        if known is None or not (prod(known) == 1 or known == shape or _is_a_channel(known, shape)):
            return False
    for name in node.input:
        known = graph.shapes[name] or () if name else ()
        if prod(known) == 1:
            inputs.append(images.plain(name))
        elif known == shape:
            inputs.append(images.twin(name))
        else:
            inputs.append(graph.reshape(images.plain(name), 1, size[1], 1, 1))
    images.define(node.output[0], graph.emit(node.op_type, *inputs, **attributes_of(node)))
    return True


def _is_a_channel(known: Shape, shape: Shape) -> bool:
    """Tell whether a tensor holds one number a channel, so that it is the same for every sample and place."""
    aligned = (1,) * (len(shape) - len(known)) + known
    return aligned == (1, shape[1], *[1] * (len(shape) - 2))


def concat(images: BatchLast, node: NodeProto) -> bool:
    """Join along the channels."""
    if attributes_of(node)["axis"] != 1 or not any(name in images.only_twins for name in node.input):
        return False
    if any(images.size(name) is None for name in node.input):
        return False
    images.define(node.output[0], images.graph.emit("Concat", *(images.twin(name) for name in node.input), axis=1))
    return True


def global_average(images: BatchLast, node: NodeProto) -> bool:
    """The mean of each channel's places, a sample at a time."""
    size = images.size(node.input[0])
    if node.input[0] not in images.only_twins or size is None:
        return False
    graph, places = images.graph, size[2] * size[3]
    total = graph.emit("ReduceSum", graph.reshape(images.twin(node.input[0]), size[1], places, images.inner),
                       graph.integers(1), keepdims=0)  # fmt: skip
    mean = graph.emit("Mul", total, graph.constant(np.array(1 / places, np.float32)))
    images.define(node.output[0], graph.reshape(mean, 1, size[1], 1, images.inner))
    return True


def bias_gradient(images: BatchLast, node: NodeProto) -> bool:
    """Sum over the batch and the places."""
    graph, x = images.graph, node.input[0]
    size, shape = images.size(x), graph.shapes.get(x)
    axes = graph.value(node.input[1]) if len(node.input) > 1 else None
    if x not in images.names or size is None or shape is None or axes is None:
        return False
    if attributes_of(node).get("keepdims", 1) or sorted(axes.tolist()) != [0, *range(2, len(shape))]:
        return False
    rows = graph.reshape(images.twin(x), size[1], -1)
    graph.emit("ReduceSum", rows, graph.integers(1), keepdims=0, out=node.output[0])
    return True
