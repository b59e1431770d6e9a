"""Do the owner's samples vote beside the network, near themselves and nowhere else?"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tests.tiny import CLASSES, tiny_samples

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.session import open_session
from mmd.promotion import memory
from mmd.promotion.memory import STRENGTH, WIDTH, with_memory, worth_remembering


@pytest.fixture
def artifact_set(tiny_set: Path) -> ArtifactSet:
    return open_set(tiny_set)


def shipped(artifact_set: ArtifactSet) -> bytes:
    return artifact_set.path(artifact_set.manifest.graphs.inference).read_bytes()


def logits(model: bytes, artifact_set: ArtifactSet, inputs: NDArray[np.generic]) -> NDArray[Any]:
    spec = artifact_set.manifest.input
    session = open_session(model, threads=1)
    answer: NDArray[Any] = session.run([artifact_set.manifest.logits], {spec.name: normalise(inputs, spec)})[0]
    return answer


def remembering(artifact_set: ArtifactSet, inputs: NDArray[np.generic], labels: NDArray[np.int64]) -> bytes:
    return with_memory(shipped(artifact_set), inputs, labels, manifest=artifact_set.manifest, threads=1)[0]


def test_a_sample_that_is_remembered_is_answered_with_its_label(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(1, seed=1)
    wrong = (labels + 1) % len(CLASSES)
    model = remembering(artifact_set, inputs, wrong)
    said = logits(shipped(artifact_set), artifact_set, inputs)
    change = logits(model, artifact_set, inputs) - said
    assert change[0, wrong[0]] == pytest.approx(STRENGTH, rel=1e-3)
    assert change[0, labels[0]] == pytest.approx(0.0, abs=1e-4)


def test_the_vote_is_the_formula_of_its_docstring(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(40, seed=1)
    asked, _ = tiny_samples(10, seed=2)
    model = onnx.load_model_from_string(remembering(artifact_set, inputs, labels))
    network = onnx.load_model_from_string(shipped(artifact_set))
    features = next(node for node in network.graph.node if artifact_set.manifest.logits in node.output).input[0]
    network.graph.output.append(onnx.helper.make_empty_tensor_value_info(features))
    session, spec = open_session(network.SerializeToString(), threads=1), artifact_set.manifest.input
    names = [artifact_set.manifest.logits, features]
    said, queries = session.run(names, {spec.name: normalise(asked, spec)})
    keys = session.run(names, {spec.name: normalise(inputs, spec)})[1]
    queries, keys = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in (queries, keys))
    votes = np.exp((queries @ keys.T - 1) / WIDTH)
    best = np.stack([votes[:, labels == number].max(axis=1) for number in range(len(CLASSES))], axis=1)
    found = logits(model.SerializeToString(), artifact_set, asked)
    np.testing.assert_allclose(found, said + STRENGTH * best, rtol=1e-3, atol=1e-3)


def test_only_labelled_samples_are_remembered(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(6, seed=1)
    nobody = np.full_like(labels, -1)
    assert remembering(artifact_set, inputs, nobody) == shipped(artifact_set)
    some = np.where(np.arange(6) < 3, labels, -1)
    assert remembering(artifact_set, inputs, some) == remembering(artifact_set, inputs[:3], labels[:3])


def test_a_class_without_samples_gets_no_vote(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(30, seed=1)
    only = labels == 0
    model = remembering(artifact_set, inputs[only], labels[only])
    change = logits(model, artifact_set, inputs) - logits(shipped(artifact_set), artifact_set, inputs)
    np.testing.assert_allclose(change[:, 1:], 0.0, atol=1e-4)


def test_a_network_that_ends_in_no_matrix_product_remembers_nothing(artifact_set: ArtifactSet) -> None:
    network = onnx.load_model_from_string(shipped(artifact_set))
    name = artifact_set.manifest.logits
    last = next(node for node in network.graph.node if name in node.output)
    last.output[0] = "before"
    network.graph.node.append(onnx.helper.make_node("Tanh", ["before"], [name]))
    model = network.SerializeToString()
    inputs, labels = tiny_samples(6, seed=1)
    assert with_memory(model, inputs, labels, manifest=artifact_set.manifest, threads=1) == (model, 0)


def test_only_the_samples_that_there_was_room_for_are_counted(
    artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = tiny_samples(40, seed=1)
    model, held = with_memory(shipped(artifact_set), inputs, labels, manifest=artifact_set.manifest, threads=1)
    assert held == 40
    monkeypatch.setattr(memory, "_MOST_NUMBERS", 3 * _keys_of(model).size // 40)
    smaller, held = with_memory(shipped(artifact_set), inputs, labels, manifest=artifact_set.manifest, threads=1)
    assert held == np.any(_keys_of(smaller) != 0, axis=0).sum() < 40


def _keys_of(model: bytes) -> NDArray[Any]:
    named = {tensor.name: tensor for tensor in onnx.load_model_from_string(model).graph.initializer}
    return onnx.numpy_helper.to_array(named["mmd.memory/keys"])


def test_the_same_samples_give_the_same_bytes(artifact_set: ArtifactSet) -> None:
    inputs, labels = tiny_samples(20, seed=4)
    assert remembering(artifact_set, inputs, labels) == remembering(artifact_set, inputs, labels)


def test_the_first_samples_of_each_class_are_worth_remembering() -> None:
    labels = [0] * 40 + [-1] + [1] * 3
    assert worth_remembering(labels) == [*range(32), 41, 42, 43]
    assert worth_remembering(labels, unseen=[0, 42]) == [*range(1, 33), 41, 43]
