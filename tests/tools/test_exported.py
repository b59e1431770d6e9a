"""Do the files that real exporters write become sets that train? See tests/golden/exported/make.py for their making."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.tools.networks import CLASSES, NEEDS_TRAINING_BUILD, Net, one_batch_descends, run, save
from tests.tools.test_architectures import says_one_thing_about_each
from tests.tools.test_estimate import ratio, within_a_quarter
from tests.tools.test_trained_mentors import digits, mentee

from mmd.artifact.load import open_set
from mmd.errors import ArtifactRefused
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import load_model, read_network
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe
from mmd_tools.verify import verify

FOLDER = Path(__file__).parents[1] / "golden" / "exported"
FILES = sorted(FOLDER.glob("*.onnx"))
NAMES = [path.stem for path in FILES]
KERAS_ARCHITECTURES = ("resnet50", "inception_v3", "efficientnet_b0")
"""Keras's own, with a sixteenth or less of their channels, in opset 15."""


def framework_says(path: Path) -> tuple[np.ndarray, np.ndarray]:
    net = path.stem.split("_script_")[0].split("_dynamo_")[0].rstrip("0123456789").rstrip("_")
    with np.load(FOLDER / f"{net}.npz") as archive:
        return archive["inputs"], archive["outputs"]


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def shaken(path: Path, folder: Path) -> Path:
    """Return the network with every matrix a little other, so that it has something to learn from the first."""
    model, rng = load_model(path), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            value = numpy_helper.to_array(tensor)
            moved = value * rng.uniform(0.8, 1.2, value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return save(model, folder, path.name)


@pytest.mark.parametrize("role", ["mentor", "mentee"])
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_an_exported_network_says_what_its_framework_said(path: Path, role: str) -> None:
    inputs, outputs = framework_says(path)
    network = read_network(path, "mentor" if role == "mentor" else "mentee")
    (logits,) = run(network.model, {network.input: inputs})
    said = softmax(logits) if path.stem.startswith("keras") else logits
    np.testing.assert_allclose(said, outputs, rtol=1e-3, atol=1e-4)


SMALL = [path for path in FILES if not path.stem.endswith("_15")]
ONE_OF_EACH = [
    path if path.stem.endswith(("_17", "dynamo_21")) else pytest.param(path, marks=pytest.mark.slow) for path in SMALL
]


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("path", ONE_OF_EACH, ids=[path.stem for path in SMALL])
def test_an_exported_network_is_mentor_and_mentee_of_a_set_that_trains(path: Path, tmp_path: Path) -> None:
    inputs, _ = framework_says(path)
    labels = np.arange(len(inputs)) % len(CLASSES)
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
    shape = inputs.shape[1:]
    map_of = next(name for name, size in read_network(path, "mentee").shapes.items() if len(size) == 3)
    recipe = Recipe(
        name="exported",
        licence="MIT",
        classes=CLASSES,
        anchor=str(tmp_path / "anchor.npz"),
        input=InputRecipe(kind="image" if shape[0] == 3 else "tensor"),
        probe=(ProbeRecipe(mentor=map_of, mentee=map_of),),
    )
    fuse(path, shaken(path, tmp_path), recipe, tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
    one_batch_descends(open_set(tmp_path / "set"), np.tile(inputs, (2, 1, 1, 1)), np.tile(labels, 2), steps=6)


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("name", KERAS_ARCHITECTURES)
def test_an_architecture_of_keras_teaches_a_small_mentee_real_digits(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"keras_{name}_15.onnx"
    read = read_network(path, "mentor")
    inputs, labels = digits(8, read.input_shape)
    labels = labels % len(CLASSES)
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
    probed = [layer for layer, shape in read.shapes.items() if len(shape) == 3 and shape[1] == shape[2] > 1][-1]
    recipe = Recipe(
        name="keras",
        licence="MIT",
        classes=CLASSES,
        anchor=str(tmp_path / "anchor.npz"),
        input=InputRecipe(kind="tensor"),
        probe=(ProbeRecipe(mentor=probed, mentee="hidden"),),
    )
    small = mentee(read.input_shape, len(CLASSES))
    fuse(path, save(small, tmp_path, "mentee.onnx"), recipe, tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
    artifact_set = open_set(tmp_path / "set")
    says_one_thing_about_each(artifact_set, inputs)
    one_batch_descends(artifact_set, inputs, labels, steps=4)


@NEEDS_TRAINING_BUILD
@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS_ARCHITECTURES)
def test_an_architecture_of_keras_is_taught_real_digits_alike_on_both_engines(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"keras_{name}_15.onnx"
    shape = read_network(path, "mentee").input_shape
    inputs, labels = digits(8, shape)
    labels = labels % len(CLASSES)
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
    recipe = Recipe(
        name="keras",
        licence="MIT",
        classes=CLASSES,
        anchor=str(tmp_path / "anchor.npz"),
        input=InputRecipe(kind="tensor", scale=1 / 255, mean=(0.2,), std=(0.3,)),
    )
    fuse(save(mentee(shape, len(CLASSES)), tmp_path, "mentor.onnx"), path, recipe, tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
    artifact_set = open_set(tmp_path / "set")
    # Its statistics folded away, fifty layers deep: with 1e-3 the first steps of either engine lead up, not down.
    ours, theirs = (
        one_batch_descends(artifact_set, inputs, labels, steps=6, engine=engine, learning_rate=1e-4)
        for engine in ("portable", "ort_training")
    )
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert within_a_quarter(ratio(tmp_path / "set", "--plain"))


def test_weights_that_lie_beside_the_file_are_asked_for_by_name_when_they_are_gone(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "torch_mobile_dynamo_21.onnx", tmp_path)
    with pytest.raises(ArtifactRefused, match=r"torch_mobile_dynamo_21\.onnx\.data"):
        load_model(tmp_path / "torch_mobile_dynamo_21.onnx")


def test_logits_that_are_a_map_of_one_pixel_become_a_row(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.add("GlobalAveragePool", net.conv("x", 1, 4)))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert read_network(save(model, tmp_path, "net.onnx"), "mentee").classes == 4


def test_equal_biases_that_are_stored_once_are_trained_apart(tmp_path: Path) -> None:
    net = Net()
    bias = net.constant(np.zeros(4, np.float32))
    x = net.add("Conv", "x", net.weight(4, 1, 3, 3), bias, pads=[1] * 4)
    x = net.add("Conv", x, net.weight(4, 4, 3, 3), bias, pads=[1] * 4)
    model = net.model(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 4, 4))
    network = read_network(save(model, tmp_path, "net.onnx"), "mentee")
    biases = [node.input[2] for node in network.model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(set(biases)) == 3
    assert set(biases) <= set(network.weights)


def test_a_shape_that_a_value_of_the_input_decides_is_still_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Conv", "x", net.weight(4, 1, 3, 3), pads=[1] * 4)
    size = net.add("Cast", net.add("ReduceMax", "x", keepdims=0), to=onnx.TensorProto.INT64)
    target = net.add("Concat", net.constant([-1], np.int64), net.add("Unsqueeze", size, net.constant([0])), axis=0)
    model = net.model(net.gemm(net.add("Reshape", x, target), 256, 4))
    with pytest.raises(ArtifactRefused, match="only the batch may be open"):
        read_network(save(model, tmp_path, "net.onnx"), "mentor")
