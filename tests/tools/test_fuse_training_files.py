"""Are the onnxruntime-training files of a set what onnxruntime's own training API expects?"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tools import networks
from tests.tools.networks import plain, recipe, save

from mmd.artifact.load import open_set
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse, gradients
from mmd_tools.recipe import ProbeRecipe

pytestmark = networks.NEEDS_TRAINING_BUILD

WEIGHTS = LossWeights(alpha=0.7, betas=(1.0,), gamma=0.4, temperature=4.0)


def training_api() -> Any:
    with gradients.training_package():
        return importlib.import_module("onnxruntime.training.api")


def test_its_module_and_optimizer_take_the_steps_of_the_portable_engine(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="relu1", mentee="relu1")
    big, small = save(plain(8, seed=9), tmp_path, "M.onnx"), save(plain(3), tmp_path, "S.onnx")
    fuse(big, small, recipe(tmp_path, probe=(probe,)), tmp_path / "set")
    artifact_set = open_set(tmp_path / "set")
    graphs = artifact_set.manifest.graphs
    api = training_api()
    state = api.CheckpointState.load_checkpoint(str(artifact_set.path(graphs.checkpoint)))
    module = api.Module(str(artifact_set.path(graphs.training)), state, str(artifact_set.path(graphs.eval)))
    optimizer = api.Optimizer(str(artifact_set.path(graphs.optimizer)), module)
    optimizer.set_learning_rate(1e-3)
    module.train()
    engine = open_engine(artifact_set, name="portable", variant="fused")
    rng = np.random.default_rng(0)
    scalars = [np.array(value, np.float32) for value in (0.7, 1.0, 0.4, 4.0)]
    for _ in range(5):
        x = rng.standard_normal((6, *networks.SHAPE)).astype(np.float32)
        labels = rng.integers(-1, 4, 6)
        theirs = module(x, labels, *scalars)
        optimizer.step()
        module.lazy_reset_grad()
        ours = engine.step(Batch(x, labels), WEIGHTS, 1e-3)
        told = [ours.total, ours.label, ours.soft, *ours.hints]
        np.testing.assert_allclose(np.array(theirs, np.float32), told, rtol=1e-4)
    for name, value in engine.state().parameters.items():
        np.testing.assert_allclose(value, state.parameters[name].data, rtol=1e-3, atol=2e-5)


def test_its_absence_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmd.errors import UsageError

    monkeypatch.setattr(gradients, "training_build_is_installed", lambda: False)
    small = save(plain(3), tmp_path, "S.onnx")
    with pytest.raises(UsageError, match="needs onnxruntime-training-cpu"):
        fuse(None, small, recipe(tmp_path), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_torch_is_not_imported() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from mmd_tools.fuse import gradients\n"
        "with gradients.training_package(): pass\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
