"""Does preparing a network keep what it computes, and refuse by name what cannot be trained?"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.tools import networks
from tests.tools.networks import NETWORKS, SHAPE, Net, run, save

from mmd.errors import ArtifactRefused
from mmd_tools.fuse.network import read_network


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_prepared_network_computes_what_the_file_computed(name: str, tmp_path: Path) -> None:
    original = NETWORKS[name]()
    prepared = read_network(save(original, tmp_path, "net.onnx"), "mentee")
    x = np.random.default_rng(0).standard_normal((3, *networks.SHAPE)).astype(np.float32)
    batch = 1 if name == "old_style" else 3
    was = np.concatenate([outputs(original, part) for part in np.split(x, 3 // batch)])
    now = outputs(prepared.model, x)
    if name in ("plain", "old_style"):
        now = softmax(now)
    if name == "traced":
        now = np.log(softmax(now))
    np.testing.assert_allclose(now, was, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_normalisation_dropout_or_identity_is_left(name: str, tmp_path: Path) -> None:
    prepared = read_network(save(NETWORKS[name](), tmp_path, "net.onnx"), "mentee")
    kinds = {node.op_type for node in prepared.model.graph.node}
    assert not kinds & {"BatchNormalization", "Dropout", "Identity", "Shape", "Gather", "HardSwish", "Softmax"}
    assert prepared.model.opset_import[0].version == 17
    assert prepared.input_shape == networks.SHAPE
    assert prepared.classes == 4


@pytest.mark.parametrize("opset", [11, 13, 18, 20, 21, 22])
def test_other_opsets_are_converted(opset: int, tmp_path: Path) -> None:
    net = Net()
    x = net.add("MaxPool", net.add("Relu", net.conv("x", 1, 4)), kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(net.gemm(net.add("Flatten", x), 64, 4), opset=opset)
    prepared = read_network(save(model, tmp_path, "net.onnx"), "mentee")
    assert prepared.model.opset_import[0].version == 17


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(networks.plain(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert read_network(path, "mentor").classes == 4


def test_missing_external_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(networks.plain(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ArtifactRefused, match=r"external weights.*net\.data") as refused:
        read_network(path, "mentor")
    assert "\n" not in str(refused.value)


def test_an_unsupported_operator_is_refused_by_type_and_node(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Ceil", net.conv("x", 1, 4), out="normed")
    model = net.model(net.gemm(net.add("Flatten", x), 256, 4))
    path = save(model, tmp_path, "net.onnx")
    with pytest.raises(ArtifactRefused, match=r"unsupported operator Ceil \(normed_node\)"):
        read_network(path, "mentee")
    assert read_network(path, "mentor").classes == 4


def test_an_operator_of_another_domain_is_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Gelu", net.conv("x", 1, 4), domain="com.microsoft", out="odd")
    model = net.model(net.gemm(net.add("Flatten", x), 256, 4))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ArtifactRefused, match=r"com\.microsoft\.Gelu \(odd_node\)"):
        read_network(save(model, tmp_path, "net.onnx"), "mentor")


def test_an_open_image_size_is_refused_by_name(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Flatten", net.add("GlobalAveragePool", net.conv("x", 1, 4)))
    model = net.model(net.gemm(x, 4, 4), shape=(1, "height", "width"))
    with pytest.raises(ArtifactRefused, match="open dimension height"):
        read_network(save(model, tmp_path, "net.onnx"), "mentee")


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    model = networks.plain()
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1]))
    with pytest.raises(ArtifactRefused, match="2 inputs"):
        read_network(save(model, tmp_path, "net.onnx"), "mentee")


def test_two_outputs_are_refused(tmp_path: Path) -> None:
    model = networks.plain()
    model.graph.output.append(onnx.helper.make_tensor_value_info("relu1", onnx.TensorProto.FLOAT, None))
    with pytest.raises(ArtifactRefused, match="2 outputs"):
        read_network(save(model, tmp_path, "net.onnx"), "mentee")


def test_a_map_for_an_output_is_refused(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.conv("x", 1, 4))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ArtifactRefused, match="logits are one row of classes"):
        read_network(save(model, tmp_path, "net.onnx"), "mentee")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("not a network")
    with pytest.raises(ArtifactRefused, match="is not an ONNX network"):
        read_network(path, "mentee")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=r"no network .*gone\.onnx"):
        read_network(tmp_path / "gone.onnx", "mentee")


def test_a_constant_that_scales_the_raw_input_is_not_trained(tmp_path: Path) -> None:
    net = Net()
    mean = net.constant(np.full((1, 1, 8, 8), 0.5, np.float32))
    x = net.add("Flatten", net.conv(net.add("Sub", "x", mean), 1, 4))
    prepared = read_network(save(net.model(net.gemm(x, 256, 4)), tmp_path, "net.onnx"), "mentee")
    assert mean not in prepared.weights
    assert len(prepared.weights) == 4


def test_a_weight_that_two_layers_share_is_folded_apart(tmp_path: Path) -> None:
    net = Net()
    x = net.conv("x", 1, 4)
    shared = net.weight(4, 4, 3, 3)
    y = net.norm(net.add("Conv", x, shared, pads=[1, 1, 1, 1]), 4)
    y = net.add("Conv", y, shared, pads=[1, 1, 1, 1])
    original = net.model(net.gemm(net.add("Flatten", y), 256, 4))
    prepared = read_network(save(original, tmp_path, "net.onnx"), "mentee")
    x_in = np.random.default_rng(0).standard_normal((2, *networks.SHAPE)).astype(np.float32)
    np.testing.assert_allclose(outputs(prepared.model, x_in), outputs(original, x_in), rtol=1e-4, atol=1e-5)


def test_newer_forms_are_said_in_the_older_opset(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Pad", net.conv("x", 1, 4), net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    net.nodes.append(onnx.helper.make_node("Split", [x], ["left", "right"], axis=1, num_outputs=2))
    x = net.add("Gelu", net.add("Concat", "right", "left", axis=1))
    x = net.add("Gelu", x, approximate="tanh")
    x = net.add("ReduceMean", x, net.constant([2, 3], np.int64), keepdims=0)
    original = net.model(net.gemm(x, 4, 4), opset=20)
    prepared = read_network(save(original, tmp_path, "net.onnx"), "mentee")
    x_in = np.random.default_rng(0).standard_normal((2, *networks.SHAPE)).astype(np.float32)
    np.testing.assert_allclose(outputs(prepared.model, x_in), outputs(original, x_in), rtol=1e-4, atol=1e-5)


def test_what_the_older_opset_cannot_say_is_refused_by_name(tmp_path: Path) -> None:
    net = Net()
    x = net.add("AveragePool", net.conv("x", 1, 4), kernel_shape=[2, 2], dilations=[2, 2], out="wide")
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    path = save(net.model(net.gemm(x, 4, 4), opset=19), tmp_path, "net.onnx")
    with pytest.raises(ArtifactRefused, match=r"AveragePool \(wide_node\) of opset 19 cannot be said in opset 17"):
        read_network(path, "mentee")


@pytest.mark.parametrize(
    ("opset", "message"),
    [
        (5, r"opset 5 does not convert to 17 \(Shape of input 0 is not available\); export it with opset 17"),
        (99, r"opset 99 is newer than \d+, the newest that is known here; export it with 17"),
    ],
)
def test_an_opset_that_does_not_convert_is_refused(opset: int, message: str, tmp_path: Path) -> None:
    net = Net()
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.norm(net.conv("x", 1, 4), 4))))
    path = save(net.model(net.gemm(x, 4, 4), opset=opset), tmp_path, "net.onnx")
    with pytest.raises(ArtifactRefused, match=message):
        read_network(path, "mentee")


def test_what_the_newer_opset_takes_anyway_need_not_be_said(tmp_path: Path) -> None:
    net = Net()
    scales = net.constant([1, 1, 2, 2], np.float32)
    x = net.add("Resize", net.conv("x", 1, 4), "", scales, antialias=0, keep_aspect_ratio_policy="stretch", out="up")
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    prepared = read_network(save(net.model(net.gemm(x, 4, 4), opset=19), tmp_path, "net.onnx"), "mentee")
    resize = next(node for node in prepared.model.graph.node if node.op_type == "Resize")
    assert not resize.attribute and prepared.shapes["up"] == (4, 16, 16)


def test_an_exporter_s_fixed_batch_is_forgotten_where_a_map_is_resized(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Resize", net.conv("x", 1, 4), "", "", net.constant([1, 4, 5, 5], np.int64), out="up")
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    prepared = read_network(save(net.model(net.gemm(x, 4, 4), batch=1), tmp_path, "net.onnx"), "mentee")
    assert prepared.shapes["up"] == (4, 5, 5)
    assert run(prepared.model, {"x": np.zeros((3, *SHAPE), np.float32)})[0].shape == (3, 4)


@pytest.mark.parametrize(("shape", "kernel"), [((3, 16), [5]), ((2, 6, 6, 6), [3, 3, 3])], ids=["sound", "volume"])
def test_signals_and_volumes_are_networks_too(shape: tuple[int, ...], kernel: list[int], tmp_path: Path) -> None:
    net = Net()
    x = net.add("Conv", "x", net.weight(4, shape[0], *kernel), net.weight(4))
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", x)))
    prepared = read_network(save(net.model(net.gemm(x, 4, 4), shape=shape), tmp_path, "net.onnx"), "mentee")
    assert prepared.input_shape == shape
