"""How does a network remember its owner's samples as they are? They vote beside it, inside the same ONNX file.

What the last layer reads is the key of a sample (kNN-Per: Marfoq et al., arXiv:2111.09360); the vote is added to the
logits, so that a sample far from every key is left to the network (Tip-Adapter: Zhang et al., arXiv:2111.03930):

    logits[c] + STRENGTH * max over the remembered samples k of class c of exp((cosine(features, k) - 1) / WIDTH)

Unlike there only the nearest sample of a class counts, so that many samples of one class do not shout the others down.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.export import MEMORY_PREFIX
from mmd.artifact.load import normalise
from mmd.artifact.manifest import Manifest
from mmd.artifact.session import open_session
from mmd.promotion.evaluate import batch_size

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]

STRENGTH, WIDTH = 6.0, 0.02
"""Chosen on writers who are in no reported figure; see docs/results/README.md."""
_MOST_PER_CLASS = 32
_MOST_NUMBERS = 1_000_000
"""Of all keys together: 4 MB."""
_AXES_ARE_INPUTS_SINCE = 18
"""Opset in which ReduceMax takes its axes as an input."""


def worth_remembering(labels: Sequence[int], *, unseen: Sequence[int] = ()) -> list[int]:
    """Return the places of the first samples of each class, as many as are remembered at most, without the `unseen`."""
    counts: Counter[int] = Counter()
    left_out = frozenset(unseen)
    chosen = []
    for place, label in enumerate(labels):
        if label >= 0 and place not in left_out and counts[label] < _MOST_PER_CLASS:
            counts[label] += 1
            chosen.append(place)
    return chosen


def with_memory(
    model: bytes, inputs: NDArray[np.generic], labels: NDArray[np.int64], *, manifest: Manifest, threads: int
) -> tuple[bytes, int]:
    """Return `model` with a memory of the labelled ones of the preprocessed `inputs`, and how many of them it holds.

    They are taken in the order that they come in, as many of each class as there is room for. `model` itself comes back
    when nothing has a label, or when its logits are not made by one matrix product.
    """
    import onnx

    network = onnx.load_model_from_string(model)
    features = _features(network, manifest.logits)
    labelled = np.flatnonzero(labels >= 0)
    if features is None or not len(labelled):
        return model, 0
    read, outputs = _read(model, features, inputs[labelled], manifest, threads)
    keys, held = _keys(read, labels[labelled], outputs)
    _add_vote(network, features, keys, manifest.logits)
    onnx.checker.check_model(network)
    encoded: bytes = network.SerializeToString(deterministic=True)
    return encoded, held


def _features(network: "onnx.ModelProto", logits: str) -> str | None:
    """Return the tensor that the last matrix product reads."""
    producers = {output: node for node in network.graph.node for output in node.output}
    node = producers.get(logits)
    if node is not None and node.op_type == "Add":
        node = next((producers[name] for name in node.input if name in producers), None)
    if node is None or node.op_type not in ("Gemm", "MatMul") or node.input[0] not in producers:
        return None
    name: str = node.input[0]
    return name


def _read(
    model: bytes, features: str, inputs: NDArray[np.generic], manifest: Manifest, threads: int
) -> tuple[Floats, int]:
    """Return the features of `inputs` at length 1, [n, features], and how many outputs the network has."""
    import onnx

    network = onnx.load_model_from_string(model)
    network.graph.output.append(onnx.helper.make_empty_tensor_value_info(features))
    session: Any = open_session(network.SerializeToString(), threads=threads)
    size = batch_size(manifest.input.shape)
    answers = [
        session.run(
            [features, manifest.logits],
            {manifest.input.name: normalise(inputs[start : start + size], manifest.input)},
        )
        for start in range(0, len(inputs), size)
    ]
    read: Floats = np.concatenate([answer[0] for answer in answers])
    lengths = np.maximum(np.linalg.norm(read, axis=1, keepdims=True), np.float32(1e-9))
    scaled: Floats = (read / lengths).astype(np.float32, copy=False)
    return scaled, int(answers[0][1].shape[1])


def _keys(features: Floats, labels: NDArray[np.int64], classes: int) -> tuple[Floats, int]:
    """Return [outputs, places, features] and how many places are taken; the others are zero, far from everything."""
    width = features.shape[1]
    most = max(1, min(_MOST_PER_CLASS, _MOST_NUMBERS // (classes * width)))
    lots = [features[labels == number][:most] for number in range(classes)]
    keys = np.zeros((classes, max(map(len, lots)), width), np.float32)
    for number, lot in enumerate(lots):
        keys[number, : len(lot)] = lot
    return keys, sum(map(len, lots))


def _add_vote(network: "onnx.ModelProto", features: str, keys: Floats, logits: str) -> None:
    from onnx import helper, numpy_helper

    graph = network.graph
    classes, places, width = keys.shape
    own = MEMORY_PREFIX + "logits"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == logits:
                node.output[place] = own
    opset = next(entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx"))
    constants: dict[str, NDArray[Any]] = {
        "one": np.array([1], np.int64),
        "tiny": np.array(1e-9, np.float32),
        "keys": np.ascontiguousarray(keys.reshape(classes * places, width).T),
        "shape": np.array([-1, classes, places], np.int64),
        "nearest": np.array(1, np.float32),
        "sharpness": np.array(1 / WIDTH, np.float32),
        "strength": np.array(STRENGTH, np.float32),
    }
    if opset >= _AXES_ARE_INPUTS_SINCE:
        constants["last"] = np.array([2], np.int64)
    graph.initializer.extend(numpy_helper.from_array(value, MEMORY_PREFIX + name) for name, value in constants.items())

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = logits if output == logits else MEMORY_PREFIX + output
        graph.node.append(helper.make_node(kind, inputs, [name], name=MEMORY_PREFIX + output, **attributes))
        return name

    def constant(name: str) -> str:
        return MEMORY_PREFIX + name

    squares = add("Mul", [features, features], "squares")
    length = add("Sqrt", [add("ReduceSum", [squares, constant("one")], "square", keepdims=1)], "length")
    scaled = add("Div", [features, add("Max", [length, constant("tiny")], "divisor")], "scaled")
    cosines = add("MatMul", [scaled, constant("keys")], "cosines")
    gaps = add("Mul", [add("Sub", [cosines, constant("nearest")], "gaps"), constant("sharpness")], "sharp")
    votes = add("Reshape", [add("Exp", [gaps], "votes"), constant("shape")], "by_class")
    if opset >= _AXES_ARE_INPUTS_SINCE:
        best = add("ReduceMax", [votes, constant("last")], "best", keepdims=0)
    else:
        best = add("ReduceMax", [votes], "best", axes=[2], keepdims=0)
    add("Add", [own, add("Mul", [best, constant("strength")], "vote")], logits)
