"""Do whole networks train alike on both engines, step by step?"""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.tools.networks import CLASSES, NETWORKS, plain, recipe, save

from mmd.artifact.load import open_set
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.lowering.measure import measure

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)

STEPS = 20


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_alike_on_both_engines(name: str, tmp_path: Path) -> None:
    mentee, mentor = save(NETWORKS[name](), tmp_path, "mentee.onnx"), save(plain(), tmp_path, "mentor.onnx")
    fuse(mentor, mentee, recipe(tmp_path), tmp_path / "set")
    artifact_set = open_set(tmp_path / "set")
    portable, training = (open_engine(artifact_set, name=engine) for engine in ("portable", "ort_training"))
    generator = np.random.default_rng(0)
    weights = LossWeights(alpha=1.0, betas=(), gamma=0.5, temperature=3.0)
    for _ in range(STEPS):
        batch = Batch(
            generator.standard_normal((8, *artifact_set.manifest.input.shape)).astype(np.float32),
            generator.integers(-1, len(CLASSES), 8),
            {artifact_set.manifest.mentor_logits: generator.standard_normal((8, len(CLASSES))).astype(np.float32)},
        )
        expected = training.step(batch, weights, 1e-3)
        assert portable.step(batch, weights, 1e-3).total == pytest.approx(expected.total, rel=1e-4)


def test_the_measurement_prints_both_engines_times_as_json(tmp_path: Path) -> None:
    mentee, mentor = save(plain(), tmp_path, "mentee.onnx"), save(plain(), tmp_path, "mentor.onnx")
    fuse(mentor, mentee, recipe(tmp_path), tmp_path / "set")
    result = CliRunner().invoke(measure, [str(tmp_path / "set"), "--batch", "4", "--steps", "2"])
    figures = json.loads(result.output)
    assert {name: len(times) for name, times in figures["cpu_ms"].items()} == {"portable": 2, "ort_training": 2}
    assert figures["ratio_to_ort_training"] > 0
