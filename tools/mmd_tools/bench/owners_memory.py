"""How far does a memory get that trains nothing? The nearest of the owner's samples vote, beside the network.

kNN-Per (Marfoq et al., arXiv:2111.09360): the network's last features are the key, and the vote is blended with what
the network says itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import ArtifactSet, normalise
from mmd.artifact.session import open_session
from mmd_tools.train_data import Part

Floats = NDArray[np.float32]

_BATCH = 256


@dataclass(frozen=True)
class MemoryTuning:
    """Chosen on 40 development owners and the shipped Mentee, by the mean accuracy over the four sizes."""

    neighbours: int = 3
    width: float = 0.1
    """Of the kernel exp(-distance / width), on features of length 1."""
    share: float = 0.4
    """Of the vote in the blend; the rest is the network's."""


class Reader:
    """One network, with the features that its last layer reads."""

    def __init__(self, model: bytes, artifact_set: ArtifactSet) -> None:
        self._manifest = artifact_set.manifest
        self._features = _last_features(model, self._manifest.logits)
        self._session: Any = open_session(_with_output(model, self._features), threads=1)

    def read(self, inputs: NDArray[np.generic]) -> tuple[Floats, Floats]:
        """Return probabilities [n, classes] and features of length 1 [n, features] of stored inputs."""
        logits, features = [], []
        for start in range(0, len(inputs), _BATCH):
            feed = {self._manifest.input.name: normalise(inputs[start : start + _BATCH], self._manifest.input)}
            answer = self._session.run([self._manifest.logits, self._features], feed)
            logits.append(answer[0])
            features.append(answer[1].reshape(len(answer[1]), -1))
        return _softmax(np.concatenate(logits)), _of_length_one(np.concatenate(features))

    def probabilities(self, inputs: NDArray[np.generic]) -> Floats:
        return self.read(inputs)[0]


class Memory:
    """The samples of an owner, and a network that says which are alike."""

    def __init__(self, reader: Reader, samples: Part, tuning: MemoryTuning) -> None:
        self._reader, self._labels, self._tuning = reader, samples.labels, tuning
        self._keys = reader.read(samples.inputs)[1] if len(samples.labels) else None

    def probabilities(self, inputs: NDArray[np.generic]) -> Floats:
        """Return the blend [n, classes]; the network's own answer when nothing is remembered."""
        said, features = self._reader.read(inputs)
        if self._keys is None:
            return said
        return blend(said, features, self._keys, self._labels, self._tuning)


def blend(said: Floats, features: Floats, keys: Floats, labels: NDArray[np.int64], tuning: MemoryTuning) -> Floats:
    """Return (1 - share) * `said` + share * the vote of the nearest keys, [n, classes]."""
    distances = np.linalg.norm(features[:, None] - keys[None], axis=2)
    count = min(tuning.neighbours, len(keys))
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
    # Relative to the nearest one, so that far from everything the vote does not become 0 / 0.
    gaps = np.take_along_axis(distances, nearest, axis=1) - distances.min(axis=1, keepdims=True)
    weights = np.exp(-gaps / tuning.width)
    votes = np.zeros_like(said)
    for place in range(count):
        votes[np.arange(len(said)), labels[nearest[:, place]]] += weights[:, place]
    blended: Floats = (1 - tuning.share) * said + tuning.share * votes / votes.sum(axis=1, keepdims=True)
    return blended


def _last_features(model: bytes, logits: str) -> str:
    import onnx

    (producer,) = [node for node in onnx.load_model_from_string(model).graph.node if logits in node.output]
    name: str = producer.input[0]
    return name


def _with_output(model: bytes, tensor: str) -> bytes:
    import onnx

    network = onnx.load_model_from_string(model)
    network.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    encoded: bytes = network.SerializeToString()
    return encoded


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32, copy=False)
    return probabilities


def _of_length_one(features: Floats) -> Floats:
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    scaled: Floats = (features / lengths).astype(np.float32, copy=False)
    return scaled
