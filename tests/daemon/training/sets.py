"""Which artifact set do the engine tests step on? A small one, fused here from two random networks."""

from pathlib import Path

import numpy as np
from tests.tools.networks import CLASSES, SHAPE, Net

from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.session import open_session
from mmd.training.engine import UNLABELLED, Batch, LossWeights
from mmd_tools.fuse import fuse
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe

WEIGHTS = LossWeights(alpha=0.7, betas=(0.4,), gamma=0.5, temperature=3.0)


def make_set(folder: Path, **changes: object) -> ArtifactSet:
    """Fuse a Mentor and a Mentee: convolution, ReLU, pooling, dense layers; CE, soft targets and one projected hint.

    `changes` go into the recipe.
    """
    for name, channels, seed in (("mentor", 6, 1), ("mentee", 4, 2)):
        net = Net(seed)
        probe = net.add("Relu", net.conv("x", 1, channels), out="probe")
        x = net.add("MaxPool", probe, kernel_shape=[2, 2], strides=[2, 2])
        x = net.add("MaxPool", net.add("Relu", net.conv(x, channels, 4)), kernel_shape=[3, 3], strides=[1, 1])
        output = net.gemm(net.add("Flatten", x), 4 * 4, len(CLASSES))
        (folder / f"{name}.onnx").write_bytes(net.model(output).SerializeToString())
    generator = np.random.default_rng(3)
    anchor = folder / "anchor.npz"
    inputs = generator.integers(0, 256, (12, *SHAPE)).astype(np.uint8)
    np.savez(anchor, inputs=inputs, labels=np.arange(12) % len(CLASSES))
    recipe: dict[str, object] = {
        "name": "engines",
        "licence": "MIT",
        "classes": CLASSES,
        "anchor": str(anchor),
        "input": InputRecipe(scale=1 / 255),
        "probe": (ProbeRecipe(mentor="probe", mentee="probe"),),
        **changes,
    }
    fuse(folder / "mentor.onnx", folder / "mentee.onnx", Recipe(**recipe), folder / "set")  # type: ignore[arg-type]
    return open_set(folder / "set")


def batches(artifact_set: ArtifactSet, count: int, *, size: int = 8, cached: bool = True) -> list[Batch]:
    """Random batches, some samples without a label; the Mentor's outputs come from its own graph."""
    manifest = artifact_set.manifest
    generator = np.random.default_rng(4)
    mentor = open_session(artifact_set.path(manifest.graphs.mentor))
    names = [output.name for output in mentor.get_outputs()]
    made = []
    for _ in range(count):
        inputs = generator.standard_normal((size, *manifest.input.shape)).astype(np.float32)
        labels = generator.integers(UNLABELLED, len(manifest.classes), size)
        outputs = dict(zip(names, mentor.run(names, {manifest.input.name: inputs}), strict=True)) if cached else None
        made.append(Batch(inputs, labels, outputs))
    return made
