"""Do networks of every family train alike on both engines, from one checkpoint, step by step?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.tools.networks import CLASSES
from tests.tools.whole_nets import FAMILIES, family_set

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.training.checkpoint import load_checkpoint, save_checkpoint
from mmd.training.engine import UNLABELLED, Batch, LossWeights
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd_tools.fuse.gradients import training_build_is_installed

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)

BATCHES, BATCH = 4, 8
RATE = 0.002
"""Short steps: where a ReLU or a max-pool has a kink, the last bit of a sum decides which way a gradient goes."""
KINKS = (
    "seen to part at step 135 in the blocked layout, not in the plain graph; on eight other seeds the blocked graph "
    "parts in 5, the plain one in 4, onnxruntime-training from itself, started 2e-7 apart, in 3; not traced yet"
)
WEIGHTS = LossWeights(alpha=1.0, betas=(), gamma=0.5, temperature=3.0)


@pytest.fixture(scope="module", params=list(FAMILIES))
def artifact_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    folder = tmp_path_factory.mktemp(request.param)
    return family_set(FAMILIES[request.param], folder, OptimizerSpec(kind="sgd", weight_decay=1e-4))


def stream(artifact_set: ArtifactSet, steps: int) -> Iterator[Batch]:
    """The same few batches again and again, so that there is something to learn; some samples have no label."""
    generator = np.random.default_rng(5)
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


def compare(artifact_set: ArtifactSet, checkpoint: Path, steps: int) -> None:
    portable, training = (open_engine(artifact_set, name=name) for name in ENGINE_NAMES)
    # A few steps first, so that the checkpoint is not the set's start.
    for batch in stream(artifact_set, 2):
        training.step(batch, WEIGHTS, RATE)
    save_checkpoint(checkpoint, training.state())
    for engine in (portable, training):
        engine.load(load_checkpoint(checkpoint))
    curve = []
    for step, batch in enumerate(stream(artifact_set, steps)):
        expected = training.step(batch, WEIGHTS, RATE).total
        curve.append(expected)
        assert portable.step(batch, WEIGHTS, RATE).total == pytest.approx(expected, rel=1e-4), f"step {step}"
    assert np.mean(curve[-BATCHES:]) < np.mean(curve[:BATCHES]), "it learns"


def test_twenty_steps_of_sgd_have_the_same_losses(artifact_set: ArtifactSet, tmp_path: Path) -> None:
    compare(artifact_set, tmp_path / "start.safetensors", 20)


@pytest.mark.slow
def test_two_hundred_steps_of_sgd_have_the_same_losses(
    artifact_set: ArtifactSet, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["artifact_set"] == "vgg":
        request.applymarker(pytest.mark.xfail(reason=KINKS, strict=False))
    compare(artifact_set, tmp_path / "start.safetensors", 200)
