"""Which small networks do the tests of the tools fuse? Real ones, built node by node with random weights."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmd.artifact.load import ArtifactSet
from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.recipe import Recipe

NEEDS_TRAINING_BUILD = pytest.mark.skipif(
    not training_build_is_installed(), reason="building a set needs onnxruntime-training, which is not installed here"
)

SHAPE = (1, 8, 8)
CLASSES = ("a", "b", "c", "d")


class Net:
    """Collects layers; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: object) -> str:
        name = out or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def weight(self, *shape: int, scale: float = 0.4) -> str:
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value: object, dtype: type | None = None) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def conv(
        self, x: str, fan_in: int, fan_out: int, kernel: int = 3, *, bias: bool = True, **attributes: object
    ) -> str:
        group = int(str(attributes.get("group", 1)))
        weights = [self.weight(fan_out, fan_in // group, kernel, kernel)]
        if bias:
            weights.append(self.weight(fan_out))
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.add("Conv", x, *weights, **attributes)

    def norm(self, x: str, channels: int) -> str:
        variance = self.constant(self.rng.uniform(0.5, 2.0, channels).astype(np.float32))
        return self.add(
            "BatchNormalization", x, self.weight(channels), self.weight(channels), self.weight(channels), variance
        )

    def gemm(self, x: str, fan_in: int, fan_out: int, **attributes: object) -> str:
        return self.add("Gemm", x, self.weight(fan_out, fan_in), self.weight(fan_out), transB=1, **attributes)

    def model(
        self,
        output: str,
        *,
        batch: int | str = "batch",
        shape: tuple[int | str, ...] = SHAPE,
        classes: int = len(CLASSES),
        opset: int = 17,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, classes])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def plain(channels: int = 4, *, seed: int = 0, classes: int = len(CLASSES)) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Flatten, Gemm, Softmax; probes `relu1` [channels, 8, 8] and `maxpool2` [channels, 4, 4]."""
    net = Net(seed)
    x = net.add("MaxPool", net.add("Relu", net.conv("x", 1, channels)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.gemm(net.add("Flatten", x), channels * 16, classes)
    return net.model(net.add("Softmax", x, axis=1), classes=classes)


def residual() -> onnx.ModelProto:
    """Convolutions with BatchNormalization around a sum, GlobalAveragePool, Gemm."""
    net = Net(1)
    x = net.add("Relu", net.norm(net.conv("x", 1, 4, bias=False), 4))
    y = net.add("Relu", net.norm(net.conv(x, 4, 4), 4))
    y = net.norm(net.conv(y, 4, 4, bias=False), 4)
    x = net.add("Relu", net.add("Add", x, y), out="sum")
    x = net.add("Flatten", net.add("GlobalAveragePool", x), axis=1)
    return net.model(net.gemm(x, 4, 4))


def inception() -> onnx.ModelProto:
    """Three branches joined by Concat, MaxPool with overlap, MatMul and Add."""
    net = Net(2)
    x = net.add("Relu", net.conv("x", 1, 4, strides=[1, 1]))
    one = net.add("Relu", net.conv(x, 4, 2, 1))
    three = net.add("Relu", net.conv(net.conv(x, 4, 2, 1), 2, 3))
    pooled = net.conv(net.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), 4, 2, 1)
    x = net.add("Concat", one, three, pooled, axis=1, out="joined")
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.add("Reshape", x, net.constant([-1, 7 * 16], np.int64))
    x = net.add("Relu", net.add("Add", net.add("MatMul", x, net.weight(7 * 16, 6)), net.weight(6)), out="hidden")
    return net.model(net.add("Add", net.add("MatMul", x, net.weight(6, 4)), net.weight(4)))


def mobile() -> onnx.ModelProto:
    """A depthwise convolution, Clip, squeeze and excite by Sigmoid, HardSwish, ReduceMean."""
    net = Net(3)
    low, high = net.constant(0.0, np.float32), net.constant(6.0, np.float32)
    x = net.add("Clip", net.norm(net.conv("x", 1, 4, strides=[2, 2], bias=False), 4), low, high)
    x = net.add("HardSwish", net.norm(net.conv(x, 4, 4, group=4, bias=False), 4))
    gate = net.add("Sigmoid", net.conv(net.add("GlobalAveragePool", x), 4, 4, 1))
    x = net.add("Mul", x, gate, out="gated")
    x = net.add("LeakyRelu", net.conv(x, 4, 6, 1), alpha=0.1)
    x = net.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return net.model(net.gemm(x, 6, 4))


def before_norm() -> onnx.ModelProto:
    """BatchNormalization that no convolution precedes, Tanh, Dropout, a strided convolution for pooling."""
    net = Net(4)
    x = net.add("Tanh", net.conv("x", 1, 4))
    x = net.add("Relu", net.norm(x, 4))
    x = net.add("Dropout", net.conv(x, 4, 4, strides=[2, 2]))
    x = net.add("Flatten", net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))
    return net.model(net.gemm(x, 16, 4))


def traced() -> onnx.ModelProto:
    """A view(size(0), -1) as tracing exporters write it, Transpose of a constant, LogSoftmax at the end."""
    net = Net(5)
    x = net.add("Relu", net.conv("x", 1, 4, strides=[2, 2]))
    batch = net.add("Gather", net.add("Shape", x), net.constant(0, np.int64), axis=0)
    batch = net.add("Unsqueeze", batch, net.constant([0], np.int64))
    shape = net.add("Concat", batch, net.constant([-1], np.int64), axis=0)
    x = net.add("MatMul", net.add("Reshape", x, shape), net.add("Transpose", net.weight(4, 64), perm=[1, 0]))
    return net.model(net.add("LogSoftmax", net.add("Identity", x), axis=1))


def old_style() -> onnx.ModelProto:
    """As exporters wrote in 2019: opset 9, weights among the inputs, a fixed batch of 1 that Reshape repeats."""
    net = Net(6)
    x = net.add("Dropout", net.add("Relu", net.norm(net.conv("x", 1, 4), 4)), ratio=0.5)
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Reshape", x, net.constant([1, 64], np.int64))
    model = net.model(net.add("Softmax", net.gemm(x, 64, 4), axis=1), batch=1, opset=9)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    return model


NETWORKS = {
    "plain": plain,
    "residual": residual,
    "inception": inception,
    "mobile": mobile,
    "before_norm": before_norm,
    "traced": traced,
    "old_style": old_style,
}


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def shape_of(net: Net, tensor: str, *, opset: int = 17) -> tuple[int, ...]:
    """Return the shape of `tensor` for a batch of one."""
    model = net.model(tensor, opset=opset)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return run(model, {"x": np.zeros((1, *SHAPE), np.float32)})[0].shape


def save(model: onnx.ModelProto, folder: Path, name: str) -> Path:
    path = folder / name
    onnx.save(model, path)
    return path


def recipe(folder: Path, **changes: object) -> Recipe:
    """Return a recipe for `SHAPE` and `CLASSES` with a small anchor set in `folder`."""
    rng = np.random.default_rng(0)
    anchor = folder / "anchor.npz"
    np.savez(anchor, inputs=rng.integers(0, 256, (8, *SHAPE)).astype(np.uint8), labels=np.arange(8) % 4)
    fields: dict[str, object] = {"name": "test", "licence": "MIT", "classes": CLASSES, "anchor": str(anchor)}
    return Recipe(**{**fields, **changes})  # type: ignore[arg-type]


def one_batch_descends(
    artifact_set: ArtifactSet,
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    engine: str = "portable",
    learning_rate: float = 1e-3,
) -> list[float]:
    """Take some steps on one batch, the Mentor in the step, hold that the loss has gone down and return it by step."""
    from mmd.artifact.load import normalise
    from mmd.training.engine import Batch, LossWeights
    from mmd.training.engines import open_engine

    manifest = artifact_set.manifest
    opened = open_engine(artifact_set, name=engine, variant="fused")
    batch = Batch(normalise(inputs, manifest.input), labels.astype(np.int64))
    weights = LossWeights(alpha=1.0, betas=(0.1,) * len(manifest.probes), gamma=0.5, temperature=4.0)
    losses = [opened.step(batch, weights, learning_rate) for _ in range(steps)]
    assert all(np.isfinite(each.total) for each in losses)
    assert losses[-1].total < losses[0].total
    return [each.total for each in losses]
