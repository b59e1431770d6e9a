"""Does `verify` see damage, foreign operators and engines that disagree?"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from safetensors.numpy import load_file, save_file
from tests.tools import networks
from tests.tools.networks import plain, recipe, save

from mmd.artifact.load import ArtifactSet, file_sha256, read_set
from mmd.artifact.manifest import FileRecord, encode_manifest, manifest_path
from mmd.errors import ArtifactRefused
from mmd.training.engine import Batch, LossWeights
from mmd_tools import verify as verify_module
from mmd_tools.fuse import fuse, gradients
from mmd_tools.recipe import ProbeRecipe
from mmd_tools.verify import Check, Gradients, Way, verify

pytestmark = networks.NEEDS_TRAINING_BUILD


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    probe = ProbeRecipe(mentor="relu1", mentee="relu1")
    big, small = save(plain(8), folder, "M.onnx"), save(plain(3), folder, "S.onnx")
    fuse(big, small, recipe(folder, probe=(probe,)), folder / "set")
    return folder / "set"


@pytest.fixture
def made(built: Path, tmp_path: Path) -> Path:
    """A copy of its own for each test to damage."""
    return Path(shutil.copytree(built, tmp_path / "set"))


def sign(folder: Path) -> None:
    """Write the hashes of the files as they are now into the manifest."""
    manifest = read_set(folder).manifest
    files = {
        name: FileRecord(sha256=file_sha256(folder / name), size=(folder / name).stat().st_size)
        for name in manifest.files
    }
    changed = type(manifest)(**{**{f: getattr(manifest, f) for f in manifest.__struct_fields__}, "files": files})
    manifest_path(folder).write_bytes(encode_manifest(changed))


def edit(folder: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / name, load_external_data=False)
    change(model)
    onnx.save(model, folder / name)
    sign(folder)


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_a_fresh_set_passes(made: Path) -> None:
    assert failed(verify(made)) == []


@pytest.mark.parametrize("name", ["mentor.data", "portable_cached.onnx", "checkpoint", "anchor.npz"])
def test_one_changed_byte_is_named(made: Path, name: str) -> None:
    data = bytearray((made / name).read_bytes())
    data[len(data) // 2] ^= 1
    (made / name).write_bytes(data)
    with pytest.raises(ArtifactRefused, match=f"{name} fails its checksum"):
        verify(made)


def test_a_missing_file_is_named(made: Path) -> None:
    (made / "mentee.onnx").unlink()
    with pytest.raises(ArtifactRefused, match=r"misses mentee\.onnx"):
        verify(made)


def test_a_training_only_operator_in_a_portable_graph_is_found(made: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.microsoft"

    edit(made, "portable_fused.onnx", spoil)
    checks = verify(made)
    assert failed(checks) == ["operators of portable_fused.onnx"]
    assert "com.microsoft.Conv" in next(check.detail for check in checks if not check.passed)


def test_an_operator_that_the_runtime_does_not_know_is_found(made: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Konv"

    edit(made, "portable_cached.onnx", spoil)
    with pytest.raises(ArtifactRefused, match=r"refuses portable_cached\.onnx"):
        verify(made)


def test_a_graph_too_new_for_boards_is_found(made: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.ir_version = 12

    edit(made, "mentee.onnx", spoil)
    assert failed(verify(made)) == ["operators of mentee.onnx"]


def test_a_missing_output_is_found(made: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        del model.graph.output[-1]

    edit(made, "portable_cached.onnx", spoil)
    assert failed(verify(made)) == ["interface of portable_cached.onnx"]


def test_start_values_that_are_not_the_shipped_weights_are_found(made: Path) -> None:
    values = load_file(made / "parameters.safetensors")
    values["w0"] = values["w0"] + np.float32(1)
    save_file(values, made / "parameters.safetensors")
    sign(made)
    assert "start values" in failed(verify(made))


def test_engines_that_disagree_are_found(made: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if "w0.grad" in node.output:
                node.output[list(node.output).index("w0.grad")] = "w0.true"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "factor"))
        model.graph.node.append(helper.make_node("Mul", ["w0.true", "factor"], ["w0.grad"]))
        for node in model.graph.node[:-1]:
            node.input[:] = ["w0.true" if name == "w0.grad" else name for name in node.input]

    edit(made, "portable_cached.onnx", spoil)
    assert failed(verify(made)) == [
        "portable cached and portable fused agree",
        "ort_training cached and portable cached agree",
    ]


def test_engines_that_part_where_rounding_decides_the_sign_before_a_relu_agree(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact_set = read_set(built)
    batch, _ = verify_module._random_batch(artifact_set, 0)
    model = plain(3)
    conv = model.graph.node[0]
    model.graph.output.append(helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT, None))
    before = ort.InferenceSession(model.SerializeToString()).run([conv.output[0]], {"x": batch.inputs})[0]
    del model.graph.output[-1]
    largest = before.reshape(*before.shape[:2], 4, 2, 4, 2).max(axis=(3, 5))
    place = np.unravel_index(np.abs(largest).argmin(), largest.shape)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[place[1]] -= largest[place]
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    probe = ProbeRecipe(mentor="relu1", mentee="relu1")
    files = [save(plain(8), tmp_path, "M.onnx"), save(model, tmp_path, "S.onnx")]
    fuse(*files, recipe(tmp_path, probe=(probe,)), tmp_path / "set")
    taken = verify_module._gradients

    def on_the_other_side(made: ArtifactSet, way: Way, batches: list[Batch], weights: LossWeights) -> list[Gradients]:
        """Return what onnxruntime-training says of the first nearby batch where its gradients are others."""
        if way[0] == "portable":
            return taken(made, way, batches, weights)
        here = taken(made, ("portable", "cached"), [batch], weights)[0]
        there = taken(made, way, verify_module._nearby(batches[0], 7), weights)
        return [found for found in there if not verify_module._agreement("", found, here).passed][:1]

    monkeypatch.setattr(verify_module, "_gradients", on_the_other_side)
    checks = verify(tmp_path / "set")
    assert failed(checks) == []
    assert sum("rounding decides a sign" in check.detail for check in checks) == 2


def test_without_the_training_build_the_portable_engine_is_verified_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "training_build_is_installed", lambda: False)
    checks = verify(made)
    assert failed(checks) == []
    assert checks[-1].detail == "not compared: onnxruntime-training is not installed here"
    assert "portable cached and portable fused agree" in {check.name for check in checks}


def test_checks_are_plain_data(made: Path) -> None:
    assert json.dumps([check.__dict__ for check in verify(made)])


def test_a_network_that_is_not_the_one_that_trains_is_seen(made: Path) -> None:
    def bend(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"

    edit(made, "mentee.onnx", bend)
    assert failed(verify(made)) == ["the step computes what mentee.onnx computes"]
