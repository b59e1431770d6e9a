"""Which networks does `bench step` time? Four of them, each a list of layers with seeded random weights."""

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Kind = Literal["conv", "pool", "average", "flatten", "dense"]


@dataclass(frozen=True)
class Layer:
    """One layer; padding is half the kernel, and convolutions and dense layers have a bias."""

    kind: Kind
    outputs: int = 0
    kernel: int = 3
    stride: int = 1
    is_depthwise: bool = False
    has_relu: bool = True


@dataclass(frozen=True)
class Case:
    """A network, and the batches it is timed at."""

    name: str
    title: str
    shape: tuple[int, ...]
    classes: int
    layers: tuple[Layer, ...]
    batches: tuple[int, ...]


def _conv(outputs: int, kernel: int = 3, stride: int = 1) -> Layer:
    return Layer("conv", outputs, kernel, stride)


def _separable(inputs: int, outputs: int, stride: int = 1) -> tuple[Layer, Layer]:
    return Layer("conv", inputs, 3, stride, is_depthwise=True), _conv(outputs, 1)


def _head(hidden: int, classes: int) -> tuple[Layer, ...]:
    return Layer("flatten"), Layer("dense", hidden), Layer("dense", classes, has_relu=False)


_POOL = Layer("pool", kernel=2, stride=2)

CASES = {
    case.name: case
    for case in (
        Case(
            "a",
            "4 conv 3x3 (16, 16, 32, 32), 2 fc, 1x28x28",
            (1, 28, 28),
            10,
            (_conv(16), _conv(16), _POOL, _conv(32), _conv(32), _POOL, *_head(128, 10)),
            (16, 64),
        ),
        Case(
            "b",
            "VGG-style, 6 conv 3x3 (32, 32, 64, 64, 128, 128), 2 fc, 3x32x32",
            (3, 32, 32),
            10,
            (_conv(32), _conv(32), _POOL, _conv(64), _conv(64), _POOL, _conv(128), _conv(128), _POOL, *_head(128, 10)),
            (32,),
        ),
        Case(
            "c",
            "depthwise separable, conv 32 and 4 blocks (64, 128, 128, 256), mean, fc, 3x32x32",
            (3, 32, 32),
            10,
            (
                _conv(32),
                *_separable(32, 64),
                *_separable(64, 128, 2),
                *_separable(128, 128),
                *_separable(128, 256, 2),
                Layer("average"),
                Layer("dense", 10, has_relu=False),
            ),
            (32,),
        ),
        Case(
            "d",
            "1-D conv (64, 64, 128, 128), kernel 3, 2 fc, 40x98 log-mel",
            (40, 98),
            12,
            (_conv(64), _conv(64), _POOL, _conv(128), _conv(128), _POOL, *_head(128, 12)),
            (32,),
        ),
    )
}

Weights = dict[str, NDArray[np.float32]]


def make_weights(case: Case, seed: int = 0) -> Weights:
    """Return `<layer>.weight` and `<layer>.bias` by the index of the layer, He-scaled."""
    generator = np.random.default_rng(seed)
    shape, weights = case.shape, {}
    for index, layer in enumerate(case.layers):
        if layer.kind in ("conv", "dense"):
            weight = _weight_shape(layer, shape)
            scale = sqrt(2 / prod(weight[1:]))
            weights[f"{index}.weight"] = (generator.standard_normal(weight) * scale).astype(np.float32)
            weights[f"{index}.bias"] = (generator.standard_normal(layer.outputs) * 0.01).astype(np.float32)
        shape = _shape_after(layer, shape)
    return weights


def _weight_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if layer.kind == "dense":
        return layer.outputs, shape[0]
    return layer.outputs, 1 if layer.is_depthwise else shape[0], *(layer.kernel for _ in shape[1:])


def _shape_after(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if layer.kind == "conv":
        return layer.outputs, *((size - 1) // layer.stride + 1 for size in shape[1:])
    if layer.kind == "pool":
        return shape[0], *((size - layer.kernel) // layer.stride + 1 for size in shape[1:])
    if layer.kind == "average":
        return (shape[0],)
    return (prod(shape),) if layer.kind == "flatten" else (layer.outputs,)


def onnx_model(case: Case, weights: Weights) -> onnx.ModelProto:
    """Return the inference network, batch symbolic."""
    nodes: list[onnx.NodeProto] = []
    rank, last = len(case.shape) - 1, "x"
    for index, layer in enumerate(case.layers):
        inputs = [last]
        if f"{index}.weight" in weights:
            inputs += [f"{index}.weight", f"{index}.bias"]
        for op, attributes in _operators(layer, rank):
            last = f"{op.lower()}.{index}"
            nodes.append(helper.make_node(op, inputs, [last], name=f"{last}.node", **attributes))
            inputs = [last]
    graph = helper.make_graph(
        nodes,
        f"case_{case.name}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *case.shape])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", case.classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _operators(layer: Layer, rank: int) -> list[tuple[str, dict[str, Any]]]:
    window: dict[str, Any] = {"kernel_shape": [layer.kernel] * rank, "strides": [layer.stride] * rank}
    if layer.kind == "conv":
        group = layer.outputs if layer.is_depthwise else 1
        conv: dict[str, Any] = {**window, "pads": [layer.kernel // 2] * 2 * rank, "group": group}
        return [("Conv", conv), *([("Relu", {})] if layer.has_relu else [])]
    if layer.kind == "dense":
        return [("Gemm", {"transB": 1}), *([("Relu", {})] if layer.has_relu else [])]
    if layer.kind == "pool":
        return [("MaxPool", window)]
    return [("GlobalAveragePool", {}), ("Flatten", {})] if layer.kind == "average" else [("Flatten", {})]
