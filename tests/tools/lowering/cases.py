"""Which small training graphs reach every lowering rule? One drawn case a row, shapes and attributes by hypothesis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, helper

Arrays = dict[str, NDArray[Any]]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Case:
    """A forward graph from `inputs` and `parameters` to `y`; the test adds a weighted sum of `y` as the loss."""

    nodes: Sequence[NodeProto]
    inputs: Arrays
    """First axis: the batch, symbolic in the graph."""
    parameters: Arrays
    constants: Arrays = field(default_factory=dict)
    loss: str | None = None
    """Set when the graph ends in its own scalar loss instead of `y`."""


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=f"the_{op.lower()}", **attributes)


def spread(draw: Draw, *shape: int, start: float = 0.0) -> NDArray[np.float32]:
    """Distinct values at least 0.05 apart and away from 0, so that no small change crosses a kink or a tie."""
    count = int(np.prod(shape))
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(count)
    step = max(0.06, 2.0 / count)
    values = (order - count // 2 + 0.5) * step if start == 0.0 else start + order * step
    return values.reshape(shape).astype(np.float32)


def noise(draw: Draw, *shape: int, scale: float = 0.5) -> NDArray[np.float32]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (generator.standard_normal(shape) * scale).astype(np.float32)


def batch(draw: Draw) -> int:
    return int(draw(st.integers(1, 3)))


def small(draw: Draw, low: int = 1, high: int = 4) -> int:
    return int(draw(st.integers(low, high)))


def behind_add(draw: Draw, shape: Sequence[int], nodes: Sequence[NodeProto], **more: Any) -> Case:
    """`a` = x + w feeds the operator, so that the gradient of `w` is the operator's input gradient."""
    size = batch(draw)
    x = more.pop("x", None)
    x = spread(draw, size, *shape) if x is None else x
    parameters = {"w": noise(draw, *shape, scale=0.001), **more.pop("parameters", {})}
    return Case([node("Add", ["x", "w"], ["a"]), *nodes], {"x": x, **more.pop("inputs", {})}, parameters, **more)


def elementwise(op: str, **attributes: Any) -> Callable[[Draw], Case]:
    return lambda draw: behind_add(draw, [small(draw), small(draw, 2, 5)], [node(op, ["a"], **attributes)])


def microsoft(op: str, **attributes: Any) -> Callable[[Draw], Case]:
    return elementwise(op, domain="com.microsoft", **attributes)


def bias_gelu(draw: Draw) -> Case:
    width = small(draw, 2, 5)
    layer = node("BiasGelu", ["a", "b"], domain="com.microsoft")
    return behind_add(draw, [3, width], [layer], parameters={"b": noise(draw, width)})


def along_axis(op: str) -> Callable[[Draw], Case]:
    return lambda draw: behind_add(
        draw, [3, small(draw, 2, 4)], [node(op, ["a"], axis=draw(st.sampled_from([1, 2, -1])))]
    )


def convolution(draw: Draw) -> Case:
    """1-D and 2-D; strides, dilations, asymmetric pads, groups."""
    rank = small(draw, 1, 2)
    # The training build's grouped ConvGrad overwrites other tensors in one dimension.
    groups = draw(st.sampled_from([1, 2])) if rank == 2 else 1
    channels, filters = groups * small(draw, 1, 2), groups * small(draw, 1, 3)
    kernel = [small(draw, 1, 3) for _ in range(rank)]
    strides, dilations = ([small(draw, 1, 2) for _ in range(rank)] for _ in range(2))
    pads = [small(draw, 0, 2) for _ in range(2 * rank)]
    shape = [channels, *(d * (k - 1) + 1 + small(draw, 0, 4) for k, d in zip(kernel, dilations, strict=True))]
    layer = node("Conv", ["a", "v", "b"], group=groups, strides=strides, dilations=dilations, pads=pads)
    parameters = {"v": noise(draw, filters, channels // groups, *kernel), "b": noise(draw, filters)}
    return behind_add(draw, shape, [layer], parameters=parameters)


def wide_convolution(draw: Draw) -> Case:
    """Enough channels and no stride: the way that shifts instead of unfolding."""
    rank, channels = small(draw, 1, 3), small(draw, 6, 7)
    kernel = [small(draw, 1, 3) for _ in range(rank)]
    dilations = [small(draw, 1, 2) for _ in range(rank)]
    pads = [small(draw, 0, 2) for _ in range(2 * rank)]
    shape = [channels, *(d * (k - 1) + 1 + small(draw, 0, 3) for k, d in zip(kernel, dilations, strict=True))]
    layer = node("Conv", ["a", "v", "b"], dilations=dilations, pads=pads)
    return behind_add(draw, shape, [layer], parameters={"v": noise(draw, 2, channels, *kernel), "b": noise(draw, 2)})


def grouped_1d_convolution(draw: Draw) -> Case:
    layer = node("Conv", ["a", "v"], group=2, strides=[small(draw, 1, 2)], pads=[1, 0])
    return behind_add(draw, [4, small(draw, 4, 6)], [layer], parameters={"v": noise(draw, 4, 2, small(draw, 1, 3))})


def same_convolution(draw: Draw) -> Case:
    mode = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    stride = small(draw, 1, 2)
    layer = node("Conv", ["a", "v"], auto_pad=mode, strides=[stride, stride])
    return behind_add(draw, [2, 6, small(draw, 4, 7)], [layer], parameters={"v": noise(draw, 3, 2, 3, 2)})


def depthwise(draw: Draw) -> Case:
    channels = small(draw, 2, 4)
    kernel, strides, dilations = ([small(draw, 1, top) for _ in range(2)] for top in (3, 2, 2))
    pads = [small(draw, 0, 2) for _ in range(4)]
    shape = [channels, *(d * (k - 1) + 1 + small(draw, 0, 4) for k, d in zip(kernel, dilations, strict=True))]
    layer = node("Conv", ["a", "v"], group=channels, strides=strides, dilations=dilations, pads=pads)
    return behind_add(draw, shape, [layer], parameters={"v": noise(draw, channels, 1, *kernel)})


def transposed_convolution(draw: Draw) -> Case:
    groups = draw(st.sampled_from([1, 2]))
    stride, pad = small(draw, 1, 2), small(draw, 0, 1)
    layer = node("ConvTranspose", ["a", "v", "b"], group=groups, strides=[stride] * 2, pads=[pad] * 4)
    parameters = {"v": noise(draw, 2 * groups, 2, 3, 3), "b": noise(draw, 2 * groups)}
    return behind_add(draw, [2 * groups, 4, 3], [layer], parameters=parameters)


def max_pool(draw: Draw) -> Case:
    """Windows that overlap, leave gaps, or hang over the edge."""
    rank = small(draw, 1, 2)
    kernel = [small(draw, 1, 3) for _ in range(rank)]
    pads = [draw(st.integers(0, k // 2)) for k in kernel] * 2
    strides = [small(draw, 1, 3) for _ in range(rank)]
    shape = [small(draw, 1, 3), *(k + small(draw, 0, 4) for k in kernel)]
    layer = node("MaxPool", ["a"], kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=draw(st.integers(0, 1)))
    return behind_add(draw, shape, [layer])


def halving_max_pool(draw: Draw) -> Case:
    """The common case: windows that tile the picture, or a sequence, with something left over at the end."""
    kernel = [small(draw, 1, 3) for _ in range(small(draw, 1, 2))]
    layer = node("MaxPool", ["a"], kernel_shape=kernel, strides=kernel)
    return behind_add(draw, [small(draw, 1, 3), *(k * small(draw) + small(draw, 0, k - 1) for k in kernel)], [layer])


def pooled_relu(draw: Draw) -> Case:
    """ReLU below a max-pool, windows that overlap or tile, whole windows of zeros among them."""
    stride = small(draw, 1, 3)
    nodes = [
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        node("MaxPool", ["r"], kernel_shape=[2, 2], strides=[stride, stride], pads=[1, 0, 0, 1]),
    ]
    return behind_add(draw, [small(draw, 1, 2), small(draw, 3, 6), small(draw, 3, 6)], nodes)


def average_pool(draw: Draw) -> Case:
    kernel = [small(draw, 1, 3), small(draw, 1, 3)]
    pads = [draw(st.integers(0, k // 2)) for k in kernel] * 2
    strides = [small(draw, 1, 3), small(draw, 1, 3)]
    shape = [small(draw, 1, 3), *(k + small(draw, 0, 3) for k in kernel)]
    layer = node("AveragePool", ["a"], kernel_shape=kernel, strides=strides, pads=pads,
                 count_include_pad=draw(st.integers(0, 1)))  # fmt: skip
    return behind_add(draw, shape, [layer])


def cross_entropy(reduction: str, *, is_weighted: bool = False) -> Callable[[Draw], Case]:
    """Some samples without a label."""

    def make(draw: Draw) -> Case:
        size, classes = small(draw, 2, 4), small(draw, 2, 5)
        labels = np.array([draw(st.integers(-1, classes - 1)) for _ in range(size)], np.int64)
        labels[0] = 0
        constants = {"c": np.linspace(0.5, 1.5, classes, dtype=np.float32)} if is_weighted else {}
        output = "y" if reduction == "none" else "loss"
        layer = node("SoftmaxCrossEntropyLoss", ["z", "labels", *constants], [output, "lp"],
                     reduction=reduction, ignore_index=-1)  # fmt: skip
        return Case(
            [node("MatMul", ["x", "w"], ["z"]), layer],
            {"x": noise(draw, size, 3), "labels": labels},
            {"w": noise(draw, 3, classes)},
            constants,
            loss=None if reduction == "none" else "loss",
        )

    return make


def internal_cross_entropy(draw: Draw) -> Case:
    layer = node("SoftmaxCrossEntropyLossInternal", ["z", "labels", "", "ignored"], ["loss", "lp"],
                 reduction=draw(st.sampled_from(["sum", "mean"])), domain="com.microsoft")  # fmt: skip
    return Case(
        [node("MatMul", ["x", "w"], ["z"]), layer],
        {"x": noise(draw, 4, 3), "labels": np.array([2, -1, 0, 4], np.int64)},
        {"w": noise(draw, 3, 5)},
        {"ignored": np.array(-1, np.int64)},
        loss="loss",
    )


def division(draw: Draw) -> Case:
    """The divisor is broadcast along the batch, and along an axis or not."""
    shape = draw(st.sampled_from([(3, 4), (4,), (3, 1), (1, 4)]))
    return behind_add(draw, [3, 4], [node("Div", ["a", "v"])], parameters={"v": 2 + noise(draw, *shape, scale=0.1)})


def scaled_mean(draw: Draw) -> Case:
    axes = draw(st.sampled_from([[1], [2], [1, 2]]))
    return behind_add(draw, [3, 4], [node("ReduceMean", ["a"], axes=axes, keepdims=draw(st.integers(0, 1)))])


def attention(draw: Draw) -> Case:
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["a", "t"], ["s"], name="scores"),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1, name="soft"),
        helper.make_node("MatMul", ["p", "a"], ["y"], name="mix"),
    ]
    return behind_add(draw, [small(draw, 2, 3), small(draw, 1, 4)], nodes)


def slicing(draw: Draw) -> Case:
    step = draw(st.sampled_from([1, 2, -1]))
    bounds = (0, 3) if step > 0 else (3, 0)
    constants = {key: np.array([value], np.int64) for key, value in
                 zip(("from", "until", "axis", "by"), (*bounds, 1, step), strict=True)}  # fmt: skip
    return behind_add(draw, [4, 2], [node("Slice", ["a", *constants])], constants=constants)


def gathering(draw: Draw) -> Case:
    places = np.array([draw(st.integers(-3, 2)) for _ in range(small(draw, 1, 5))], np.int64)
    return behind_add(draw, [3, 2], [node("Gather", ["a", "i"], axis=1)], constants={"i": places})


def gathering_elements(draw: Draw) -> Case:
    size = batch(draw)
    places = np.array(draw(st.lists(st.integers(0, 2), min_size=size * 4, max_size=size * 4)), np.int64)
    layer = node("GatherElements", ["a", "i"], axis=1)
    return behind_add(draw, [3], [layer], x=spread(draw, size, 3), inputs={"i": places.reshape(size, 4)})


def gathering_tuples(draw: Draw) -> Case:
    size = batch(draw)
    places = np.array(draw(st.lists(st.integers(0, 2), min_size=size * 2, max_size=size * 2)), np.int64)
    layer = node("GatherND", ["a", "i"], batch_dims=1)
    return behind_add(draw, [3, 2], [layer], x=spread(draw, size, 3, 2), inputs={"i": places.reshape(size, 2, 1)})


def concatenation(draw: Draw) -> Case:
    nodes = [
        helper.make_node("Mul", ["x", "v"], ["m"], name="second"),
        node("Concat", ["a", "m", "a"], axis=draw(st.sampled_from([1, 2]))),
    ]
    return behind_add(draw, [2, 3], nodes, parameters={"v": noise(draw, 2, 3)})


def triangle(draw: Draw) -> Case:
    return behind_add(draw, [3, small(draw, 2, 4)], [node("Trilu", ["a"], upper=draw(st.integers(0, 1)))])


def batch_norm(draw: Draw) -> Case:
    channels = small(draw, 1, 3)
    layer = node("BatchNormalization", ["a", "g", "b", "m", "v"], ["y", "next_m", "next_v"], training_mode=1)
    return behind_add(
        draw, [channels, 3, 2], [layer], x=spread(draw, 3, channels, 3, 2),
        parameters={"g": 1 + noise(draw, channels), "b": noise(draw, channels)},
        constants={"m": np.zeros(channels, np.float32), "v": np.ones(channels, np.float32)},
    )  # fmt: skip


def layer_norm(draw: Draw) -> Case:
    axis = draw(st.sampled_from([1, 2, -1]))
    shape = (3, 4) if axis == 1 else (4,)
    layer = node("LayerNormalization", ["a", "g", "b"], ["y", "mean", "inverse"], axis=axis)
    return behind_add(draw, [3, 4], [layer], parameters={"g": 1 + noise(draw, *shape), "b": noise(draw, *shape)})


def resizing(draw: Draw) -> Case:
    mode, coordinates = draw(
        st.sampled_from([("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")])
    )
    scales = [1.0, 1.0, *draw(st.sampled_from([(2.0, 2.0), (3.0, 1.0), (0.5, 2.0)]))]
    layer = node("Resize", ["a", "", "scales"], mode=mode, coordinate_transformation_mode=coordinates,
                 nearest_mode="floor")  # fmt: skip
    return behind_add(draw, [2, 4, 3], [layer], constants={"scales": np.array(scales, np.float32)})


def frozen(op: str, gates: int) -> Callable[[Draw], Case]:
    """A recurrent layer whose weights are constants, as a Mentor's are."""

    def make(draw: Draw) -> Case:
        hidden, features, steps = small(draw, 1, 3), small(draw, 1, 3), small(draw, 1, 4)
        constants = {
            "r": noise(draw, 1, gates * hidden, features),
            "s": noise(draw, 1, gates * hidden, hidden),
            "axis": np.array([0], np.int64),
        }
        nodes = [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2], name="turn"),
            helper.make_node(op, ["t", "r", "s"], ["", "last"], hidden_size=hidden, name="frozen"),
            helper.make_node("Squeeze", ["last", "axis"], ["row"], name="squeeze"),
            node("MatMul", ["row", "w"]),
        ]
        return Case(nodes, {"x": noise(draw, batch(draw), steps, features)}, {"w": noise(draw, hidden, 2)}, constants)

    return make


CASES: dict[str, Callable[[Draw], Case]] = {
    "attention": attention,
    "average_pool": average_pool,
    "batch_norm": batch_norm,
    "bias_gelu": bias_gelu,
    "concatenation": concatenation,
    "convolution": convolution,
    "cross_entropy_mean": cross_entropy("mean"),
    "cross_entropy_none": cross_entropy("none"),
    "cross_entropy_weighted": cross_entropy("mean", is_weighted=True),
    "depthwise": depthwise,
    "division": division,
    "fast_gelu": microsoft("FastGelu"),
    "frozen_gru": frozen("GRU", 3),
    "frozen_lstm": frozen("LSTM", 4),
    "gathering": gathering,
    "gathering_elements": gathering_elements,
    "gathering_tuples": gathering_tuples,
    "gelu": microsoft("Gelu"),
    "grouped_1d_convolution": grouped_1d_convolution,
    "halving_max_pool": halving_max_pool,
    "internal_cross_entropy": internal_cross_entropy,
    "layer_norm": layer_norm,
    "leaky_relu": elementwise("LeakyRelu", alpha=0.2),
    "log_softmax": along_axis("LogSoftmax"),
    "max_pool": max_pool,
    "pooled_relu": pooled_relu,
    "quick_gelu": microsoft("QuickGelu", alpha=1.3),
    "relu": elementwise("Relu"),
    "resizing": resizing,
    "same_convolution": same_convolution,
    "scaled_mean": scaled_mean,
    "sigmoid": elementwise("Sigmoid"),
    "slicing": slicing,
    "softmax": along_axis("Softmax"),
    "tanh": elementwise("Tanh"),
    "transposed_convolution": transposed_convolution,
    "triangle": triangle,
    "wide_convolution": wide_convolution,
}

NOT_IN_TRAINING_BUILD = {
    "average_pool": "onnxruntime-training 1.19.2 dies of a division by zero in its AveragePoolGrad kernel",
    "grouped_1d_convolution": "onnxruntime-training 1.19.2 overwrites other tensors in a grouped 1-D ConvGrad",
    "resizing": "onnxruntime-training 1.19.2 has no CPU kernel for ResizeGrad",
    "same_convolution": "onnxruntime-training 1.19.2 ignores auto_pad in ConvGrad",
    "transposed_convolution": "onnxruntime-training 1.19.2 has no CPU kernel for ConvTransposeGrad",
}
"""Cases that only central differences can judge."""

NEVER_IN_TRAINING_BUILD = {"AveragePoolGrad", "ConvTransposeGrad", "ResizeGrad"}
"""Operators without a kernel there that works: central differences judge them (and average pools in whole networks)."""
