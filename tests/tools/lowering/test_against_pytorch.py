"""Do networks of every family train as PyTorch's autograd trains them, from the same weights?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from tests.tools.lowering.test_whole_nets import RATE, WEIGHTS, stream
from tests.tools.whole_nets import FAMILIES, family_set

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.training.engine import Batch, Engine
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd_tools.fuse.gradients import training_build_is_installed

pytestmark = [
    pytest.mark.skipif(
        not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
    ),
]
torch = pytest.importorskip("torch", reason="PyTorch is the extra `bench`: pip install -e '.[dev,bench]'")
from tests.tools import torch_reference  # noqa: E402  (it imports torch)

STEPS = 200
DECAY = 1e-4


class Reference:
    """The Mentee in PyTorch, from the same weights, with torch.optim.SGD."""

    def __init__(self, artifact_set: ArtifactSet, start: Mapping[str, np.ndarray]) -> None:
        manifest = artifact_set.manifest
        self._model = onnx.load(artifact_set.path(manifest.graphs.inference))
        self._mentor_logits = manifest.mentor_logits
        self.parameters = torch_reference.parameters_of(start)
        self._optimizer = torch.optim.SGD(self.parameters.values(), lr=RATE, weight_decay=DECAY)

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Any]]:
        assert batch.mentor is not None
        self._optimizer.zero_grad()
        logits = torch_reference.forward(self._model, self.parameters, batch.inputs)
        loss = torch_reference.loss(logits, batch, batch.mentor[self._mentor_logits], WEIGHTS)
        loss.backward()
        return loss.item(), {name: value.grad.numpy() for name, value in self.parameters.items()}

    def step(self, batch: Batch) -> float:
        loss, _ = self.gradients(batch)
        self._optimizer.step()
        return loss


@pytest.fixture(scope="module", params=list(FAMILIES))
def artifact_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    folder = tmp_path_factory.mktemp(request.param)
    return family_set(FAMILIES[request.param], folder, OptimizerSpec(kind="sgd", weight_decay=DECAY))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_the_gradients_are_those_of_autograd(artifact_set: ArtifactSet, name: str) -> None:
    engine: Engine = open_engine(artifact_set, name=name)
    batch = next(iter(stream(artifact_set, 1)))
    losses, gradients = engine.gradients(batch, WEIGHTS)
    loss, expected = Reference(artifact_set, engine.state().parameters).gradients(batch)
    assert losses.total == pytest.approx(loss, rel=1e-5)
    floor = 1e-2 * max(float(np.abs(value).max()) for value in expected.values())
    for parameter, gradient in gradients.items():
        scale = max(float(np.abs(expected[parameter]).max()), floor)
        np.testing.assert_allclose(gradient / scale, expected[parameter] / scale, atol=2e-5, err_msg=parameter)


@pytest.mark.slow
def test_two_hundred_steps_of_sgd_have_the_losses_of_pytorch(artifact_set: ArtifactSet) -> None:
    engine: Engine = open_engine(artifact_set, name="portable")
    reference = Reference(artifact_set, engine.state().parameters)
    for step, batch in enumerate(stream(artifact_set, STEPS)):
        expected = reference.step(batch)
        assert engine.step(batch, WEIGHTS, RATE).total == pytest.approx(expected, rel=1e-4), f"step {step}"
