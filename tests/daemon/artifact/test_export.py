"""Is the exported network the trained one, and does the gate compare what it should?"""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file
from tests.tiny import tiny_samples

from mmd.artifact.export import export_model
from mmd.artifact.load import ArtifactSet, normalise, open_set, read_set
from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused
from mmd.promotion.evaluate import ask


@pytest.fixture
def artifact_set(tiny_set: Path) -> ArtifactSet:
    return open_set(tiny_set)


def start(artifact_set: ArtifactSet) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]:
    return load_file(artifact_set.path(artifact_set.manifest.graphs.parameters))


def test_the_shipped_parameters_give_the_shipped_answers(artifact_set: ArtifactSet) -> None:
    manifest = artifact_set.manifest
    inputs = normalise(tiny_samples(6, seed=1)[0], manifest.input)
    shipped = open_session(artifact_set.path(manifest.graphs.inference))
    exported = open_session(export_model(artifact_set, start(artifact_set)))
    answers = [session.run([manifest.logits], {manifest.input.name: inputs})[0] for session in (shipped, exported)]
    np.testing.assert_array_equal(*answers)


def test_the_trained_parameters_are_in_it_bit_for_bit_and_projectors_are_not(artifact_set: ArtifactSet) -> None:
    rng = np.random.default_rng(0)
    trained = {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in start(artifact_set).items()}
    exported = onnx.load_model_from_string(export_model(artifact_set, trained))
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in exported.graph.initializer}
    roles = {parameter.name: parameter.role for parameter in artifact_set.manifest.parameters}
    assert set(roles.values()) == {"mentee", "projector"}
    for name, role in roles.items():
        if role == "mentee":
            assert initializers[name].tobytes() == trained[name].tobytes()
        else:
            assert name not in initializers


def test_equal_parameters_give_equal_bytes(artifact_set: ArtifactSet) -> None:
    assert export_model(artifact_set, start(artifact_set)) == export_model(artifact_set, start(artifact_set))


def test_a_network_without_one_of_the_parameters_is_refused_by_name(tmp_path: Path, artifact_set: ArtifactSet) -> None:
    shutil.copytree(artifact_set.folder, tmp_path / "set")
    path = tmp_path / "set" / artifact_set.manifest.graphs.inference
    model = onnx.load_model(path)
    next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias").name = "other"
    onnx.save_model(model, path)
    with pytest.raises(ArtifactRefused, match=r"head\.bias"):
        export_model(read_set(tmp_path / "set"), start(artifact_set))


def test_both_models_are_asked_about_the_same_samples(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(150, seed=1)
    knowing = start(artifact_set)
    knowing["head.bias"] = np.array([9, 0, 0, 0], np.float32)
    before, after = export_model(artifact_set, start(artifact_set)), export_model(artifact_set, knowing)
    said = ask([before, after], [inputs, inputs[::-1]], labels, manifest=artifact_set.manifest, threads=1)
    assert said[1].is_right.sum() == (labels == 0).sum()
    for one in said:
        assert one.log_probabilities.shape == (2, 150, 4)
        np.testing.assert_allclose(np.exp(one.log_probabilities).sum(axis=2), 1.0)
        np.testing.assert_array_equal(one.log_probabilities[0], one.log_probabilities[1, ::-1])


def test_no_samples_are_no_rows(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(0, seed=1)
    model = export_model(artifact_set, start(artifact_set))
    (said,) = ask([model], [inputs], labels, manifest=artifact_set.manifest, threads=1)
    assert said.certainty.shape == (0,)
