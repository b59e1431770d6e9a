"""Do networks of every family train alike on both engines, from one checkpoint, step by step?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tests.tools.networks import CLASSES
from tests.tools.whole_nets import FAMILIES, family_set

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import open_session
from mmd.training.blocked import in_blocks
from mmd.training.blocks import block_size
from mmd.training.checkpoint import load_checkpoint, save_checkpoint
from mmd.training.engine import UNLABELLED, Batch, LossWeights, TrainingState
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.feeds import batch_feed
from mmd_tools.fuse.gradients import training_build_is_installed

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)

BATCHES, BATCH, SEED = 4, 8, 5
TOLERANCE = 1e-4
INPUTS = {"x", "labels", "alpha", "gamma", "temperature"}
RATE = 0.002
"""Short steps: where a ReLU or a max-pool has a kink, the last bit of a sum decides which way a gradient goes."""
ROUNDING = 2e-6
"""How far a value may be from zero, relative to the largest of its layer, for rounding alone to decide its sign."""
WEIGHTS = LossWeights(alpha=1.0, betas=(), gamma=0.5, temperature=3.0)


@pytest.fixture(scope="module", params=list(FAMILIES))
def artifact_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    folder = tmp_path_factory.mktemp(request.param)
    return family_set(FAMILIES[request.param], folder, OptimizerSpec(kind="sgd", weight_decay=1e-4))


def stream(artifact_set: ArtifactSet, steps: int) -> Iterator[Batch]:
    """The same few batches again and again, so that there is something to learn; some samples have no label."""
    generator = np.random.default_rng(SEED)
    shape, logits = artifact_set.manifest.input.shape, artifact_set.manifest.mentor_logits
    made = [
        Batch(
            generator.standard_normal((BATCH, *shape)).astype(np.float32),
            generator.integers(UNLABELLED, len(CLASSES), BATCH),
            {logits: generator.standard_normal((BATCH, len(CLASSES))).astype(np.float32)},
        )
        for _ in range(BATCHES)
    ]
    return (made[step % BATCHES] for step in range(steps))


@dataclass(frozen=True)
class Course:
    """How both engines went, side by side."""

    worst: float
    """The largest difference of a step's losses, relative to the loss, as long as they went together."""
    parted: int | None
    """The step at which a kink parted them."""
    first: float
    last: float
    """The mean loss of the first and of the last turn through the batches."""


def compare(artifact_set: ArtifactSet, checkpoint: Path, steps: int) -> Course:
    portable, training = (open_engine(artifact_set, name=name) for name in ENGINE_NAMES)
    # A few steps first, so that the checkpoint is not the set's start.
    for batch in stream(artifact_set, 2):
        training.step(batch, WEIGHTS, RATE)
    save_checkpoint(checkpoint, training.state())
    for engine in (portable, training):
        engine.load(load_checkpoint(checkpoint))
    curve, states, worst, parted = [], [], 0.0, None
    for step, batch in enumerate(stream(artifact_set, steps)):
        states.append((portable.state(), training.state()))
        expected = training.step(batch, WEIGHTS, RATE).total
        curve.append(expected)
        difference = abs(portable.step(batch, WEIGHTS, RATE).total - expected) / expected
        # Not `>`: it would let a NaN pass.
        if not difference <= TOLERANCE:
            check_that_a_kink_parted_them(artifact_set, states, step)
            parted = step
            break
        worst = max(worst, difference)
    course = Course(worst, parted, float(np.mean(curve[:BATCHES])), float(np.mean(curve[-BATCHES:])))
    assert parted is not None or course.last < course.first, "it learns"
    return course


def check_that_a_kink_parted_them(
    artifact_set: ArtifactSet, states: list[tuple[TrainingState, TrainingState]], step: int
) -> None:
    """Networks may part only where a ReLU's input was zero but for rounding: one engine passes it on, one does not.

    The first sign that differs between the two engines' own activations must be such a one. From then on they follow
    two gradients, each of them right.
    """
    graphs = artifact_set.manifest.graphs
    portable, training = (Activations(artifact_set, name) for name in (graphs.portable_cached, graphs.training_cached))
    for (ours, theirs), batch in zip(states, stream(artifact_set, step + 1), strict=True):
        left, right = portable.of(ours, batch), training.of(theirs, batch)
        differing = {name: np.abs(left[name] - right[name])[(left[name] > 0) != (right[name] > 0)] for name in left}
        distances = [values.max() / left[name].max() for name, values in differing.items() if values.size]
        if distances:
            assert max(distances) < ROUNDING, "the first sign that differs is no matter of rounding"
            return
    pytest.fail(f"the losses part at step {step}, and every ReLU agrees")


class Activations:
    """What the ReLUs of a step graph give, in the layout that the engine computes in."""

    def __init__(self, artifact_set: ArtifactSet, graph: str) -> None:
        model = onnx.load(artifact_set.path(graph))
        inference = onnx.shape_inference.infer_shapes(
            onnx.load(artifact_set.path(artifact_set.manifest.graphs.inference))
        )
        self.names = [node.output[0] for node in inference.graph.node if node.op_type == "Relu"]
        shapes = [value for value in inference.graph.value_info if value.name in self.names]
        model.graph.output.extend(shapes)
        block = block_size()
        if block is not None and graph == artifact_set.manifest.graphs.portable_cached:
            model = in_blocks(model, BATCH, block)
        self.manifest, self.session = artifact_set.manifest, open_session(model.SerializeToString())

    def of(self, state: TrainingState, batch: Batch) -> dict[str, NDArray[np.float32]]:
        feed: dict[str, object] = {}
        for value in self.session.get_inputs():
            if value.name in state.parameters:
                feed[value.name] = state.parameters[value.name]
            elif value.name in INPUTS or value.name == self.manifest.mentor_logits:
                feed |= batch_feed(self.manifest, batch, WEIGHTS, [value.name])
            else:
                dtype = {"tensor(bool)": np.bool_, "tensor(int64)": np.int64}.get(value.type, np.float32)
                feed[value.name] = np.ones(value.shape, dtype)
        return dict(zip(self.names, self.session.run(self.names, feed), strict=True))


def test_twenty_steps_of_sgd_have_the_same_losses(artifact_set: ArtifactSet, tmp_path: Path) -> None:
    compare(artifact_set, tmp_path / "start.safetensors", 20)


@pytest.mark.slow
def test_two_hundred_steps_of_sgd_have_the_same_losses(artifact_set: ArtifactSet, tmp_path: Path) -> None:
    compare(artifact_set, tmp_path / "start.safetensors", 200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_networks_part_only_where_rounding_decides_a_sign(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.SEED", seed)
    artifact_set = family_set(FAMILIES["vgg"], tmp_path, OptimizerSpec(kind="sgd", weight_decay=1e-4))
    compare(artifact_set, tmp_path / "start.safetensors", 200)
