"""Can every operator of the table be trained? One small network an operator, through both engines."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.tools import networks
from tests.tools.networks import Net, plain, recipe, save, shape_of

from mmd.artifact.load import open_set
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import read_network
from mmd_tools.fuse.operators import CONDITIONS, REWRITTEN, SHAPE_WORK, TRAINABLE
from mmd_tools.verify import verify

pytestmark = networks.NEEDS_TRAINING_BUILD


def _floats(net: Net, *values: float) -> list[str]:
    return [net.constant(value, np.float32) for value in values]


def _positive(net: Net, x: str) -> str:
    return net.add("Add", net.add("Abs", x), net.constant(0.5, np.float32))


def _squeeze(net: Net, x: str) -> str:
    x = net.add("Unsqueeze", x, net.constant([2], np.int64))
    return net.add("Squeeze", x, net.constant([2], np.int64))


def _split(net: Net, x: str) -> str:
    names = ["left", "right"]
    from onnx import helper

    net.nodes.append(helper.make_node("Split", [x, net.constant([1, 3], np.int64)], names, axis=1, name="split_node"))
    return net.add("Concat", names[1], names[0], axis=1)


def _traced(net: Net, x: str) -> str:
    batch = net.add("Gather", net.add("Shape", x), net.constant(0, np.int64), axis=0)
    batch = net.add("Unsqueeze", batch, net.constant([0], np.int64))
    return net.add("Reshape", x, net.add("Concat", batch, net.constant([4, 16], np.int64), axis=0))


def _slice(net: Net, x: str) -> str:
    return net.add("Slice", x, *(net.constant([value], np.int64) for value in (1, 4, 2)))


def _pads(net: Net, x: str) -> str:
    return net.add("Pad", x, net.constant([0, 0, 1, 0, 0, 0, 0, 2], np.int64))


def _constant(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Constant", value_floats=[0.5]))


def _masks(net: Net, x: str) -> list[str]:
    """Both at 0, where the two that are chosen between meet."""
    return [net.add("Greater", x, *_floats(net, 0.0)), net.add("Less", x, *_floats(net, 0.0))]


def _chosen(net: Net, x: str, mask: str) -> str:
    return net.add("Where", mask, x, net.add("Tanh", x))


def _up(net: Net, x: str, mode: str, **attributes: object) -> str:
    return net.add("Resize", x, "", net.constant([1, 1, 2, 1.5], np.float32), mode=mode, **attributes)


def _sized(net: Net, x: str) -> str:
    sizes = net.add("Concat", net.add("Shape", x, start=0, end=2), net.constant([7, 6], np.int64), axis=0)
    return net.add("Resize", x, "", "", sizes, mode="linear")


def _top(net: Net, x: str) -> str:
    from onnx import helper

    node = helper.make_node("TopK", [x, net.constant([2], np.int64)], ["best", "places"], axis=3, name="the_top")
    net.nodes.append(node)
    return "best"


def _scattered(net: Net, x: str) -> str:
    places = net.constant([[0, 1], [2, 1]], np.int64)
    rows = net.add("ScatterElements", net.weight(4, 4), places, net.weight(2, 2), axis=0)
    return net.add("Add", x, rows)


def _picked(net: Net, x: str) -> str:
    """The embedding of a fixed permutation, an entry a channel."""
    order = net.constant([[[[2]], [[0]], [[3]], [[0]]]], np.int64)
    scale = net.add("Reshape", net.weight(4, 2), net.constant([1, 4, 2, 1], np.int64))
    return net.add("Mul", x, net.add("GatherElements", net.add("Slice", scale, *_range(net, 2)), order, axis=1))


def _range(net: Net, axis: int) -> list[str]:
    return [net.constant([value], np.int64) for value in (0, 1, axis)]


def _grouped(net: Net, x: str, *, of: int) -> str:
    return net.add("GroupNormalization", x, net.weight(of), net.weight(of), num_groups=2)


def _recurrent(op: str, **attributes: object) -> Callable[[Net, str], str]:
    """Over the 16 places of the map, 4 features each, hidden size 3."""

    def make(net: Net, x: str) -> str:
        from onnx import helper

        sequence = net.add("Reshape", x, net.constant([0, 4, 16], np.int64))
        sequence = net.add("Transpose", sequence, perm=[2, 0, 1])
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * 3
        ways = 2 if attributes.get("direction") == "bidirectional" else 1
        weights = [net.weight(ways, gates, 4), net.weight(ways, gates, 3), net.weight(ways, 2 * gates)]
        outputs = ["all_steps", "last_step"]
        node = helper.make_node(op, [sequence, *weights], outputs, name=f"the_{op}", hidden_size=3, **attributes)
        net.nodes.append(node)
        rows = net.add("Transpose", "all_steps", perm=[2, 0, 1, 3])
        last = net.add("Transpose", "last_step", perm=[1, 0, 2])
        return net.add("Concat", net.add("Flatten", rows), net.add("Flatten", last), axis=1)

    return make


# From a map [N, 4, 4, 4] to anything; the rest of the network is the same for all.
CASES: dict[str, Callable[[Net, str], str]] = {
    "Abs": lambda n, x: n.add("Abs", x),
    "And": lambda n, x: _chosen(n, x, n.add("And", _masks(n, x)[0], n.add("Not", _masks(n, x)[1]))),
    "Add": lambda n, x: n.add("Add", x, n.weight(4, 1, 1)),
    "AveragePool": lambda n, x: n.add("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1]),
    "BatchNormalization": lambda n, x: n.norm(n.add("Relu", x), 4),
    "Clip": lambda n, x: n.add("Clip", x, *_floats(n, -0.2, 0.3)),
    "Concat": lambda n, x: n.add("Concat", x, n.add("Relu", x), axis=1),
    "Constant": _constant,
    "Conv": lambda n, x: n.conv(x, 4, 6, 3, group=2, strides=[2, 1], dilations=[1, 1], pads=[0, 1, 1, 0]),
    "Div": lambda n, x: n.add("Div", x, _positive(n, n.add("Tanh", x))),
    "Dropout": lambda n, x: n.add("Dropout", x),
    "Elu": lambda n, x: n.add("Elu", x, alpha=0.7),
    "Erf": lambda n, x: n.add("Erf", x),
    "Exp": lambda n, x: n.add("Exp", x),
    "Flatten": lambda n, x: n.add("Flatten", x, axis=1),
    "Gelu": lambda n, x: n.add("Gelu", x),
    "Gemm": lambda n, x: n.add("Gemm", n.add("Flatten", x), n.weight(64, 5), n.weight(5), alpha=0.5, beta=2.0),
    "GRU": _recurrent("GRU", linear_before_reset=1),
    "GRU/bidirectional": _recurrent("GRU", direction="bidirectional"),
    "GlobalAveragePool": lambda n, x: n.add("GlobalAveragePool", x),
    "GlobalMaxPool": lambda n, x: n.add("GlobalMaxPool", x),
    "HardSigmoid": lambda n, x: n.add("HardSigmoid", x, alpha=0.3, beta=0.4),
    "HardSwish": lambda n, x: n.add("HardSwish", x),
    "Identity": lambda n, x: n.add("Relu", n.add("Identity", x)),
    "LRN": lambda n, x: n.add("LRN", x, size=3, alpha=0.5, beta=0.6, bias=1.5),
    "LSTM": _recurrent("LSTM"),
    "LSTM/bidirectional": _recurrent("LSTM", direction="bidirectional"),
    "LSTM/reverse": _recurrent("LSTM", direction="reverse"),
    "LayerNormalization": lambda n, x: n.add("LayerNormalization", x, n.weight(4, 4), n.weight(4, 4), axis=2),
    "LeakyRelu": lambda n, x: n.add("LeakyRelu", x, alpha=0.2),
    "Log": lambda n, x: n.add("Log", _positive(n, x)),
    "LogSoftmax": lambda n, x: n.add("LogSoftmax", x, axis=1),
    "MatMul": lambda n, x: n.add("MatMul", x, n.weight(4, 3)),
    "MaxPool": lambda n, x: n.add("MaxPool", x, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 0, 0]),
    "Mish": lambda n, x: n.add("Mish", x),
    "Mul": lambda n, x: n.add("Mul", x, n.add("Sigmoid", n.add("GlobalAveragePool", x))),
    "Neg": lambda n, x: n.add("Neg", x),
    "PRelu": lambda n, x: n.add("PRelu", x, n.weight(4, 1, 1)),
    "Pad": _pads,
    "Pow": lambda n, x: n.add("Pow", _positive(n, x), n.constant(1.5, np.float32)),
    "RNN": _recurrent("RNN"),
    "Reciprocal": lambda n, x: n.add("Reciprocal", _positive(n, x)),
    "ReduceMean": lambda n, x: n.add("ReduceMean", x, axes=[2, 3], keepdims=0),
    "ReduceSum": lambda n, x: n.add("ReduceSum", x, n.constant([3], np.int64), keepdims=1),
    "Relu": lambda n, x: n.add("Relu", x),
    "Reshape": lambda n, x: n.add("Reshape", x, n.constant([0, 16, 4], np.int64)),
    "Sigmoid": lambda n, x: n.add("Sigmoid", x),
    "Slice": _slice,
    "Softmax": lambda n, x: n.add("Softmax", x, axis=-1),
    "Softplus": lambda n, x: n.add("Softplus", x),
    "Softsign": lambda n, x: n.add("Softsign", x),
    "Split": _split,
    "Sqrt": lambda n, x: n.add("Sqrt", _positive(n, x)),
    "Squeeze": _squeeze,
    "Sub": lambda n, x: n.add("Sub", n.weight(4, 1, 1), x),
    "Sum": lambda n, x: n.add("Sum", x, n.add("Relu", x), n.add("Tanh", x)),
    "Tanh": lambda n, x: n.add("Tanh", x),
    "Transpose": lambda n, x: n.add("Transpose", x, perm=[0, 2, 3, 1]),
    "Unsqueeze": lambda n, x: n.add("Unsqueeze", x, n.constant([1, 3], np.int64)),
    "Shape": _traced,
    "AveragePool/ceil": lambda n, x: n.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool/dilations of one": lambda n, x: n.add("AveragePool", x, kernel_shape=[2, 2], dilations=[1, 1]),
    "Cast": lambda n, x: n.add("Mul", x, n.add("Cast", _masks(n, x)[0], to=1)),
    "Celu": lambda n, x: n.add("Celu", x, alpha=0.6),
    "ConvTranspose": lambda n, x: n.add(
        "ConvTranspose", x, n.weight(4, 3, 3, 2), n.weight(3), strides=[2, 1], pads=[1, 0, 1, 1], output_padding=[1, 0]
    ),
    "ConvTranspose/1": lambda n, x: n.add("ConvTranspose", x, n.weight(4, 2, 1, 1), strides=[2, 2]),
    "ConvTranspose/grouped": lambda n, x: n.add("ConvTranspose", x, n.weight(4, 3, 2, 2), group=2, dilations=[2, 1]),
    "ConvTranspose/same": lambda n, x: n.add(
        "ConvTranspose", x, n.weight(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    "ConvTranspose/shape": lambda n, x: n.add(
        "ConvTranspose", x, n.weight(4, 3, 3, 3), strides=[2, 2], output_shape=[8, 8]
    ),
    "Cos": lambda n, x: n.add("Cos", x),
    "DepthToSpace": lambda n, x: n.add("DepthToSpace", x, blocksize=2),
    "DepthToSpace/columns": lambda n, x: n.add("DepthToSpace", x, blocksize=2, mode="CRD"),
    "Equal": lambda n, x: _chosen(n, x, n.add("Equal", n.add("Relu", x), *_floats(n, 0.0))),
    "Expand": lambda n, x: n.add("Expand", n.add("GlobalAveragePool", x), n.constant([1, 4, 2, 3], np.int64)),
    "Gather": lambda n, x: n.add("Gather", x, n.constant([0, 2, 2], np.int64), axis=2),
    "GatherElements": _picked,
    "Greater": lambda n, x: _chosen(n, x, _masks(n, x)[0]),
    "GreaterOrEqual": lambda n, x: _chosen(n, x, n.add("GreaterOrEqual", x, *_floats(n, 0.0))),
    "GroupNormalization": lambda n, x: _grouped(n, x, of=4),
    "GroupNormalization/18": lambda n, x: _grouped(n, x, of=2),
    "InstanceNormalization": lambda n, x: n.add("InstanceNormalization", x, n.weight(4), n.weight(4)),
    "Less": lambda n, x: _chosen(n, x, _masks(n, x)[1]),
    "LessOrEqual": lambda n, x: _chosen(n, x, n.add("LessOrEqual", x, *_floats(n, 0.0))),
    "LpNormalization": lambda n, x: n.add("LpNormalization", x, axis=1),
    "LpNormalization/1": lambda n, x: n.add("LpNormalization", x, axis=2, p=1),
    "Max": lambda n, x: n.add("Max", x, n.add("Neg", x), n.add("Tanh", x)),
    "Mean": lambda n, x: n.add("Mean", x, n.add("Relu", x), n.add("Tanh", x)),
    "Min": lambda n, x: n.add("Min", x, n.weight(4, 1, 1)),
    "Not": lambda n, x: _chosen(n, x, n.add("Not", _masks(n, x)[0])),
    "Or": lambda n, x: _chosen(n, x, n.add("Or", n.add("Not", _masks(n, x)[0]), _masks(n, x)[1])),
    "Pad/axes": lambda n, x: n.add(
        "Pad", x, n.constant([1, 0, 0, 2], np.int64), n.constant(0, np.float32), n.constant([2, 3], np.int64)
    ),
    "ReduceL1": lambda n, x: n.add("ReduceL1", x, axes=[2], keepdims=0),
    "ReduceL2": lambda n, x: n.add("ReduceL2", x, axes=[-1]),
    "ReduceLogSum": lambda n, x: n.add("ReduceLogSum", _positive(n, x), axes=[1]),
    "ReduceLogSumExp": lambda n, x: n.add("ReduceLogSumExp", x, axes=[1]),
    "ReduceLogSumExp/gone axes": lambda n, x: n.add("ReduceLogSumExp", x, axes=[1, 3], keepdims=0),
    "ReduceMax": lambda n, x: n.add("ReduceMax", x, axes=[1, 3], keepdims=0),
    "ReduceMin": lambda n, x: n.add("ReduceMin", x, axes=[2, 3]),
    "ReduceSumSquare": lambda n, x: n.add("ReduceSumSquare", x, axes=[2, 3], keepdims=0),
    "Resize": lambda n, x: _up(n, x, "linear"),
    "Resize/corners": lambda n, x: _up(n, x, "cubic", coordinate_transformation_mode="align_corners"),
    "Resize/nearest": lambda n, x: _up(
        n, x, "nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "Resize/sizes": _sized,
    "ScatterElements": _scattered,
    "Selu": lambda n, x: n.add("Selu", x),
    "Sin": lambda n, x: n.add("Sin", x),
    "SpaceToDepth": lambda n, x: n.add("SpaceToDepth", x, blocksize=2),
    "ThresholdedRelu": lambda n, x: n.add("ThresholdedRelu", x, alpha=0.1),
    "Tile": lambda n, x: n.add("Tile", x, n.constant([1, 2, 1, 3], np.int64)),
    "TopK": _top,
    "Trilu": lambda n, x: n.add("Trilu", x),
    "Where": lambda n, x: n.add("Where", _masks(n, x)[0], x, n.weight(4, 1, 1)),
}


NEWER = {
    "AveragePool/dilations of one": 19,
    "Gelu": 20,
    "GroupNormalization": 21,
    "GroupNormalization/18": 18,
    "Mish": 18,
    "Pad/axes": 18,
}


def test_every_trainable_operator_has_a_case() -> None:
    named = {name.partition("/")[0] for name in CASES}
    assert (TRAINABLE | CONDITIONS | REWRITTEN) - named == set()
    assert named - (TRAINABLE | CONDITIONS | REWRITTEN | SHAPE_WORK) == set()


@pytest.mark.parametrize("operator", CASES)
def test_the_operator_trains_alike_on_both_engines(operator: str, tmp_path: Path) -> None:
    net = Net(11)
    x = CASES[operator](net, net.conv("x", 1, 4, strides=[2, 2]))
    flat = net.add("Flatten", x, axis=1)
    opset = NEWER.get(operator, 17)
    mentee = net.model(net.gemm(flat, shape_of(net, flat, opset=opset)[1], 4), opset=opset)
    fuse(save(plain(4), tmp_path, "M.onnx"), save(mentee, tmp_path, "S.onnx"), recipe(tmp_path), tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
    x_in = np.random.default_rng(1).standard_normal((3, *networks.SHAPE)).astype(np.float32)
    trained = onnx.load(tmp_path / "set" / "mentee.onnx")
    expected = networks.run(mentee, {"x": x_in})[0]
    np.testing.assert_allclose(networks.run(trained, {"x": x_in})[0], expected, rtol=1e-4, atol=1e-5)
    slope, difference = _slopes(tmp_path / "set")
    assert slope == pytest.approx(difference, rel=0.02, abs=2e-3)


def _slopes(folder: Path) -> tuple[float, float]:
    """The slope of the loss along a random direction of all parameters, by the gradients and by central differences."""
    rng = np.random.default_rng(7)
    artifact_set = open_set(folder)
    engine = open_engine(artifact_set, name="portable")
    logits = {artifact_set.manifest.mentor_logits: rng.standard_normal((5, 4)).astype(np.float32)}
    batch = Batch(rng.standard_normal((5, *networks.SHAPE)).astype(np.float32), rng.integers(0, 4, 5), logits)
    weights = LossWeights(alpha=1.0, betas=(), gamma=0.0, temperature=2.0)
    start = engine.state()
    _, gradients = engine.gradients(batch, weights)
    direction = {name: rng.uniform(-1, 1, value.shape).astype(np.float32) for name, value in start.parameters.items()}
    slope = sum(float((gradients[name].astype(np.float64) * direction[name]).sum()) for name in direction)
    step, found = np.float32(3e-4), []
    for sign in (1, -1):
        moved = {name: value + sign * step * direction[name] for name, value in start.parameters.items()}
        engine.load(replace(start, parameters=moved))
        found.append(engine.losses(batch, weights).total)
    return slope, (found[0] - found[1]) / (2 * float(step))


def test_pads_that_count_do_so_where_the_size_is_rounded_up(tmp_path: Path) -> None:
    net = Net(12)
    pooled = net.add(
        "AveragePool", "x", kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1, count_include_pad=1, out="pooled"
    )
    path = save(net.model(net.gemm(net.add("Flatten", pooled), 4, 4), shape=(1, 7)), tmp_path, "S.onnx")
    small = read_network(path, "mentee").model
    small.graph.output[0].name = "pooled"
    small.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    # Windows at -1, 1, 3, 5 of 0 | 1 2 3 4 5 6 7; the last one holds two values, and nothing counts beyond the pads.
    np.testing.assert_allclose(networks.run(small, {"x": x})[0].ravel(), [1.0, 3.0, 5.0, 6.5])
