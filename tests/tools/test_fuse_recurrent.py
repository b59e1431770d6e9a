"""Does an unrolled LSTM, GRU or RNN compute what the original does, and is the rest refused by name?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.tools.networks import CLASSES, Net, run

from mmd.errors import ArtifactRefused
from mmd_tools.fuse.network import read_network

STEPS, FEATURES, HIDDEN = 5, 4, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def network(
    op: str, *, bias: bool = True, steps: int | str = STEPS, start: str | None = None, **attributes: object
) -> onnx.ModelProto:
    """Return a network over [steps, features] whose head reads every output of the recurrent layer."""
    net = Net(3)
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    sequence = net.add("Transpose", "x", perm=[1, 0, 2])
    inputs = [sequence, net.weight(ways, GATES[op] * HIDDEN, FEATURES), net.weight(ways, GATES[op] * HIDDEN, HIDDEN)]
    inputs.append(net.weight(ways, 2 * GATES[op] * HIDDEN) if bias else "")
    if start == "lengths":
        inputs.append(net.constant([STEPS, STEPS], np.int32))
    elif start is not None:
        inputs += ["", _start(net, start, ways)]
    outputs = ["every", "last"] + (["cell"] if op == "LSTM" else [])
    net.nodes.append(helper.make_node(op, inputs, outputs, name="the_layer", hidden_size=HIDDEN, **attributes))
    rows = [net.add("Flatten", net.add("Transpose", "every", perm=[2, 0, 1, 3]))]
    rows += [net.add("Flatten", net.add("Transpose", name, perm=[1, 0, 2])) for name in outputs[1:]]
    joined = net.add("Concat", *rows, axis=1)
    width = ways * HIDDEN * ((steps if isinstance(steps, int) else STEPS) + len(outputs) - 1)
    return net.model(net.gemm(joined, width, len(CLASSES)), shape=(steps, FEATURES))


def _start(net: Net, start: str, ways: int) -> str:
    if start == "random":
        return net.weight(ways, 1, HIDDEN)
    if start == "zeros":
        return net.constant(np.zeros((ways, 1, HIDDEN), np.float32))
    batch = net.add("Gather", net.add("Shape", "x"), net.constant([0], np.int64), axis=0)
    sizes = net.add("Concat", net.constant([ways], np.int64), batch, net.constant([HIDDEN], np.int64), axis=0)
    if start == "filled":
        return net.add("ConstantOfShape", sizes)
    return net.add("Expand", net.constant(np.zeros((1, 1, 1), np.float32)), sizes)


def prepared(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "mentee.onnx")
    return read_network(folder / "mentee.onnx", "mentee").model


def assert_same(original: onnx.ModelProto, folder: Path, *, batch: int) -> None:
    x = np.random.default_rng(4).standard_normal((batch, STEPS, FEATURES)).astype(np.float32)
    expected = run(original, {"x": x})[0]
    model = prepared(original, folder)
    assert not {node.op_type for node in model.graph.node} & set(GATES)
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, atol=2e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(
    ("op", "attributes"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]
)
def test_the_unrolled_layer_computes_the_same(
    op: str, attributes: dict[str, object], bias: bool, direction: str, tmp_path: Path
) -> None:
    assert_same(network(op, bias=bias, direction=direction, **attributes), tmp_path, batch=2)


@pytest.mark.parametrize("start", ["filled", "expanded"])
@pytest.mark.parametrize("op", GATES)
def test_a_start_at_zero_is_understood_however_it_is_written(op: str, start: str, tmp_path: Path) -> None:
    assert_same(network(op, start=start), tmp_path, batch=3)


def test_a_start_at_zero_for_a_batch_of_one_is_understood(tmp_path: Path) -> None:
    assert_same(network("LSTM", start="zeros"), tmp_path, batch=1)


def test_every_weight_can_be_trained(tmp_path: Path) -> None:
    onnx.save(network("LSTM", direction="bidirectional"), tmp_path / "mentee.onnx")
    weights = read_network(tmp_path / "mentee.onnx", "mentee").weights
    assert len(weights) == 2 * 3 + 2, "two matrices and a bias a direction, and the head"


def test_the_mentors_layers_stay_as_they_are(tmp_path: Path) -> None:
    onnx.save(network("LSTM"), tmp_path / "mentor.onnx")
    model = read_network(tmp_path / "mentor.onnx", "mentor").model
    assert "LSTM" in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: network("LSTM", start="random"), "only a start at zero"),
        (lambda: network("GRU", start="lengths"), "sequence lengths or peepholes"),
        (lambda: network("LSTM", clip=1.0), "the attribute clip"),
        (lambda: network("LSTM", input_forget=1), "the attribute input_forget"),
        (lambda: network("RNN", activations=["Relu"]), "activations of its own"),
        (lambda: network("LSTM", steps=300), "300 steps; 256 can be trained"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(model: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=rf"\(the_layer\).*{message}"):
        prepared(model(), tmp_path)  # type: ignore[operator]


def test_an_open_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="open dimension"):
        prepared(network("LSTM", steps="time"), tmp_path)
