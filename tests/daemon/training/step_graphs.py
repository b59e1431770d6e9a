"""Which step graphs are made in another layout by the tests? Small networks with every kind of layer and size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tests.tools.networks import Net

from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import open_session


@dataclass(frozen=True)
class Layers:
    """A small network, and how many convolutions of its step graph must run in blocks at least."""

    net: Net
    output: str
    shape: tuple[int, ...]
    convolutions: int
    batch: int = 8


def pictures() -> Layers:
    """Two convolutions with a pooling each, one of them odd-sized, then a dense layer."""
    net = Net(1)
    x = net.add("Relu", net.conv("x", 1, 16))
    x = net.add("MaxPool", net.add("Relu", net.conv(x, 16, 16)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("MaxPool", net.add("Relu", net.conv(x, 16, 8)), kernel_shape=[2, 2], strides=[2, 2])
    return Layers(net, net.gemm(net.add("Flatten", x), 8 * 3 * 2, 4), (1, 14, 9), 8)


def uneven() -> Layers:
    """Channels and batch that are no whole blocks."""
    net = Net(2)
    x = net.add("MaxPool", net.add("Relu", net.conv("x", 3, 12)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Relu", net.add("Tanh", net.conv(x, 12, 20)))
    return Layers(net, net.gemm(net.add("Flatten", x), 20 * 16, 4), (3, 8, 8), 5, batch=11)


def separable() -> Layers:
    """Depthwise convolutions, one with a stride, pointwise ones, the mean of each channel."""
    net = Net(3)
    x = net.add("Relu", net.conv("x", 3, 16))
    x = net.add("Relu", net.conv(x, 16, 16, group=16))
    x = net.add("Relu", net.conv(x, 16, 24, 1))
    x = net.add("Relu", net.conv(x, 24, 24, group=24, strides=[2, 2]))
    x = net.add("Relu", net.conv(x, 24, 16, strides=[2, 2], dilations=[2, 2], pads=[2, 1, 2, 2]))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return Layers(net, net.gemm(x, 16, 4), (3, 9, 9), 10)


def branches() -> Layers:
    """A sum and a join of branches, a stride, a window that overlaps, a grouped convolution."""
    net = Net(4)
    x = net.add("Relu", net.conv("x", 8, 16))
    x = net.add("Relu", net.add("Add", x, net.conv(x, 16, 16, 1)))
    x = net.add("Concat", x, net.add("Relu", net.conv(x, 16, 8)), axis=1)
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.add("Sigmoid", net.conv(x, 24, 24, group=3))
    x = net.conv(x, 24, 16, strides=[2, 2])
    return Layers(net, net.gemm(net.add("Flatten", x), 16 * 4, 4), (8, 8, 8), 7, batch=16)


def sequence() -> Layers:
    """One-dimensional convolutions and poolings."""
    net = Net(5)
    x = net.add("Conv", "x", net.weight(16, 12, 3), net.weight(16), pads=[1, 1])
    x = net.add("MaxPool", net.add("Relu", x), kernel_shape=[2], strides=[2])
    x = net.add("Relu", net.add("Conv", x, net.weight(24, 16, 5), net.weight(24), pads=[2, 2], strides=[2]))
    return Layers(net, net.gemm(net.add("Flatten", x), 24 * 4, 4), (12, 15), 4)


def wide() -> Layers:
    """A picture that is too large to keep the channels of a block together in its weight gradient."""
    net = Net(6)
    x = net.add("Relu", net.conv("x", 3, 12))
    x = net.add("Relu", net.conv(x, 12, 8, strides=[2, 2]))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return Layers(net, net.gemm(x, 8, 4), (3, 34, 36), 5, batch=16)


NETS = {f.__name__: f for f in (pictures, uneven, separable, branches, sequence, wide)}


def step_graph(layers: Layers) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Return the lowered graph of sum(weighting * output), and what to feed it."""
    from mmd_tools.fuse.gradients import training_files
    from mmd_tools.fuse.graphs import ForwardGraph
    from mmd_tools.lowering import lower

    net, generator = layers.net, np.random.default_rng(0)
    parameters = {w.name: onnx.numpy_helper.to_array(w) for w in net.weights}
    weighting = net.constant(generator.standard_normal((1, 4)).astype(np.float32))
    net.add("ReduceSum", net.add("Mul", layers.output, weighting), out="loss", keepdims=0)
    model = net.model("loss", shape=layers.shape)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    spec = OptimizerSpec()
    training = training_files(ForwardGraph(model, tuple(parameters)), spec).training
    feed: dict[str, NDArray[Any]] = {
        "x": generator.standard_normal((layers.batch, *layers.shape)).astype(np.float32),
        **parameters,
        **{f"{name}.{m}": np.zeros_like(value) for name, value in parameters.items() for m in ("m1", "m2")},
        **{name: np.array(0.1, np.float32) for name in ("learning_rate", "weight_decay", "clip_norm")},
        "step": np.array(1, np.int64),
    }
    return lower(training, list(parameters), spec), feed


def assert_same_gradients(ours: onnx.ModelProto, plain: onnx.ModelProto, feed: dict[str, NDArray[Any]]) -> None:
    """Run both and compare the loss and every gradient, relative to the largest number in it."""
    wanted = [v.name for v in plain.graph.output if v.name == "loss" or v.name.endswith(".grad")]
    left, right = (open_session(m.SerializeToString()).run(wanted, feed) for m in (ours, plain))
    for tensor, mine, theirs in zip(wanted, left, right, strict=True):
        scale = float(np.abs(theirs).max()) or 1.0
        np.testing.assert_allclose(mine / scale, theirs / scale, atol=2e-5, err_msg=tensor)
