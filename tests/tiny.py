"""Which real artifact set do the tests of rounds use? A tiny one, built by `mmd_tools.fuse`, with samples to learn."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mmd.artifact.load import ArtifactSet, open_set
from mmd.config import Config, GateConfig, TrainingConfig
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.samples.form import SampleForm
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore

GOLDEN = Path(__file__).parent / "golden" / "tiny"
"""The same set as it was once built. Format 1 is read for ever, and a board without onnxruntime-training runs it.

`python -m tests.tiny` builds it anew.
"""

CLASSES = ("a", "b", "c", "d")
SHAPE = (1, 8, 8)
_NOISE = 70.0


def tiny_samples(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` noisy pictures of four fixed patterns, and which pattern each shows."""
    patterns = np.random.default_rng(0).uniform(40, 215, (len(CLASSES), *SHAPE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    noisy = patterns[labels] + rng.normal(0, _NOISE, (count, *SHAPE))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels.astype(np.int64)


def _network(channels: int, seed: int, classes: int = len(CLASSES)) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Flatten, Gemm; the features before the Gemm are called `flat`."""
    rng = np.random.default_rng(seed)
    weights = {
        "conv.weight": rng.standard_normal((channels, 1, 3, 3)) * 0.4,
        "conv.bias": np.zeros(channels),
        "head.weight": rng.standard_normal((classes, channels * 16)) * 0.05,
        "head.bias": np.zeros(classes),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["conv"], "conv_node", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], "relu_node"),
        helper.make_node("MaxPool", ["relu"], ["pool"], "pool_node", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat_node"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head_node", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _knowing_network(channels: int) -> onnx.ModelProto:
    """Return a network that knows the patterns: random features, and a head fitted by least squares."""
    model = _network(channels, seed=1)
    inputs, labels = tiny_samples(400, seed=1)
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["batch", channels * 16]))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (features,) = session.run(["flat"], {"x": inputs.astype(np.float32) / 255})
    targets = 8.0 * np.eye(len(CLASSES))[labels] - 2.0
    gram = features.T @ features + 5.0 * np.eye(features.shape[1])
    head = np.linalg.solve(gram, features.T @ targets).T
    del model.graph.output[-1]
    for tensor in model.graph.initializer:
        if tensor.name == "head.weight":
            tensor.CopyFrom(numpy_helper.from_array(head.astype(np.float32), tensor.name))
    return model


def build_tiny_set(folder: Path, *, spare_classes: int = 0, soft: Literal["kl", "mse", "dkd"] = "kl") -> Path:
    """Fuse a Mentor that knows the patterns and a Mentee that does not; return the set's folder."""
    from mmd_tools.fuse import fuse
    from mmd_tools.recipe import InputRecipe, LossRecipe, ProbeRecipe, Recipe, TrainingRecipe

    onnx.save_model(_knowing_network(8), folder / "mentor.onnx")
    onnx.save_model(_network(4, seed=2, classes=len(CLASSES) + spare_classes), folder / "mentee.onnx")
    inputs, labels = tiny_samples(60, seed=3)
    np.savez(folder / "anchor.npz", inputs=inputs, labels=labels)
    recipe = Recipe(
        name="tiny",
        licence="MIT",
        classes=CLASSES,
        spare_classes=spare_classes,
        anchor=str(folder / "anchor.npz"),
        input=InputRecipe(scale=1 / 255),
        probe=(ProbeRecipe(mentor="relu", mentee="relu", weight=0.1),),
        loss=LossRecipe(soft=soft),
        training=TrainingRecipe(epochs=4, batch_size=16, learning_rate=0.02, replay=0.25),
    )
    fuse(folder / "mentor.onnx", folder / "mentee.onnx", recipe, folder / "set")
    return folder / "set"


@dataclass(frozen=True)
class Board:
    """A state folder with samples in it, as `mmd init` and `mmd ingest` leave it."""

    state: StateDir
    artifact_set: ArtifactSet
    config: Config

    def store(self) -> SampleStore:
        return SampleStore(self.state.samples_db)

    def models(self) -> ModelStore:
        return ModelStore(self.state)


def tiny_config(**training: object) -> Config:
    """Return a configuration whose rounds take a second and have one candidate, that which was trained."""
    fixed = {"checkpoint_every_steps": 5, "variant": "cached", "memory": False, "blends": (1.0,)}
    values: dict[str, object] = {**fixed, **training}
    return Config(training=TrainingConfig(**values), gate=GateConfig(min_judged=8, folds=0))  # type: ignore[arg-type]


def tiny_board(root: Path, tiny_set: Path, *, samples: int = 80, labelled: bool = True, **training: object) -> Board:
    """Return a board at `root` with `samples` samples, about a quarter of them held out."""
    state = StateDir(root)
    root.mkdir(parents=True, exist_ok=True)
    # The set is never changed by a round, so the tests share one.
    state.artifact_set.symlink_to(tiny_set)
    artifact_set = open_set(tiny_set)
    spare = artifact_set.manifest.spare_classes
    form = SampleForm(kind="image", shape=SHAPE, classes=CLASSES, spare=spare)
    inputs, labels = tiny_samples(samples, seed=4)
    with SampleStore.create(state.samples_db, form, holdout_fraction=0.25) as store:
        store.add(
            NewSample(content.tobytes(), CLASSES[label] if labelled else None, f"{number}.png")
            for number, (content, label) in enumerate(zip(inputs, labels, strict=True))
        )
    ModelStore(state).create_shipped(artifact_set)
    return Board(state, artifact_set, tiny_config(**training))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        built = build_tiny_set(Path(work))
        shutil.rmtree(GOLDEN, ignore_errors=True)
        shutil.copytree(built, GOLDEN)
