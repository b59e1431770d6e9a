"""Does the step graph with the samples side by side compute what the plain one does, for every kind of layer?"""

import numpy as np
import onnx
import pytest
from tests.daemon.training.step_graphs import NETS, Layers, assert_same_gradients, pictures, separable, step_graph
from tests.tools.networks import NEEDS_TRAINING_BUILD, Net

from mmd.artifact.session import open_session
from mmd.training.batch_last import in_batch_last

pytestmark = NEEDS_TRAINING_BUILD


def strides() -> Layers:
    """Strides larger than the kernel, as large, smaller, and unlike in height and width; odd sizes; dilations."""
    net = Net(7)
    x = net.add("Relu", net.conv("x", 3, 8, 1, strides=[2, 2], pads=[0] * 4))
    x = net.add("Relu", net.conv(x, 8, 8, 2, strides=[2, 1], pads=[0] * 4))
    x = net.add("Relu", net.conv(x, 8, 8, 5, strides=[2, 3], pads=[2, 2, 1, 2]))
    x = net.add("Relu", net.conv(x, 8, 8, strides=[1, 2], dilations=[1, 2], pads=[1, 2, 1, 2]))
    x = net.conv(x, 8, 8, 3, group=8, strides=[2, 1])
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return Layers(net, net.gemm(x, 8, 4), (3, 25, 27), 9)


def scales() -> Layers:
    """Numbers of a channel, of a sample and channel, and of all; a window along one axis; uneven padding."""
    net = Net(8)
    x = net.add("LeakyRelu", net.conv("x", 3, 6, 2, pads=[0, 1, 1, 0]), alpha=0.1)
    x = net.add("Mul", x, net.weight(6, 1, 1))
    x = net.add("Add", x, net.weight(1, 6, 1, 1))
    gate = net.add("Sigmoid", net.conv(net.add("GlobalAveragePool", x), 6, 6, 1))
    x = net.add("Tanh", net.add("Mul", x, gate))
    x = net.add("MaxPool", x, kernel_shape=[1, 3], strides=[1, 3])
    x = net.add("AveragePool", net.conv(x, 6, 4, group=2), kernel_shape=[2, 2], strides=[2, 2])
    return Layers(net, net.gemm(net.add("Flatten", x), 4 * 4 * 1, 4), (3, 8, 8), 5)


ALL = NETS | {f.__name__: f for f in (strides, scales)}


def runs_side_by_side(model: onnx.ModelProto) -> bool:
    """Tell whether every convolution reads one picture, and none with trained weights runs backwards."""
    shapes = {v.name: v.type.tensor_type.shape.dim for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    constants = {tensor.name for tensor in model.graph.initializer}
    batches = [shapes[node.input[0]][0].dim_value for node in model.graph.node if node.op_type == "Conv"]
    backwards = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    return set(batches) == {1} and all(node.input[1] in constants for node in backwards)


@pytest.mark.parametrize("name", ALL)
def test_the_graph_has_the_gradients_of_the_plain_one(name: str) -> None:
    layers = ALL[name]()
    plain, feed = step_graph(layers)
    ours = in_batch_last(plain, layers.batch)
    assert runs_side_by_side(ours)
    assert_same_gradients(ours, plain, feed)


def test_equal_values_in_a_window_give_the_gradient_to_the_first() -> None:
    layers = pictures()
    plain, feed = step_graph(layers)
    feed["x"] = np.ones_like(feed["x"])
    assert_same_gradients(in_batch_last(plain, layers.batch), plain, feed)


def test_the_same_step_gives_the_same_bits() -> None:
    layers = separable()
    plain, feed = step_graph(layers)
    model = in_batch_last(plain, layers.batch).SerializeToString()
    first, second = ([value.tobytes() for value in open_session(model).run(None, feed)] for _ in range(2))
    assert first == second
