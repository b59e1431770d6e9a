"""Is the gradient of every term the slope of its loss? Central differences, on both engines."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.tools import networks
from tests.tools.networks import Net, recipe, save

from mmd.artifact.load import open_set
from mmd.training.engine import Batch, Engine, Floats, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.fuse.losses import HINT_LOSSES, SOFT_LOSSES
from mmd_tools.recipe import LossRecipe, ProbeRecipe

pytestmark = networks.NEEDS_TRAINING_BUILD

HINTS = tuple(HINT_LOSSES)
PROBES = tuple(ProbeRecipe(mentor="tanh1", mentee="tanh1", loss=loss) for loss in HINTS)  # type: ignore[arg-type]
LABELS = np.array([0, -1, 2, 3, -1, 1], np.int64)


def smooth(channels: int, seed: int) -> onnx.ModelProto:
    """A network without kinks: Conv, Tanh, GlobalAveragePool, Gemm."""
    net = Net(seed)
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Tanh", net.conv("x", 1, channels))))
    return net.model(net.gemm(x, channels, 4))


@pytest.fixture(scope="module", params=SOFT_LOSSES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Fuse one set a soft loss, every hint loss in each."""
    folder = tmp_path_factory.mktemp(request.param)
    asked = recipe(folder, probe=PROBES, loss=LossRecipe(soft=request.param, label_smoothing=0.1))
    fuse(save(smooth(5, 9), folder, "M.onnx"), save(smooth(3, 1), folder, "S.onnx"), asked, folder / "set")
    return request.param, folder / "set"


def only(term: str) -> LossWeights:
    betas = tuple(float(term == hint) for hint in HINTS)
    return LossWeights(alpha=float(term == "label"), betas=betas, gamma=float(term == "soft"), temperature=2.0)


def moved(engine: Engine, parameters: Mapping[str, Floats], direction: Mapping[str, Floats], by: float) -> None:
    start = engine.state()
    values = {name: value + np.float32(by) * direction[name] for name, value in parameters.items()}
    engine.load(type(start)(start.step, values, start.first_moments, start.second_moments))


@pytest.mark.parametrize("engine_name", ["portable", "ort_training"])
def test_the_gradient_of_each_term_is_its_slope(built: tuple[str, Path], engine_name: str) -> None:
    soft, folder = built
    engine = open_engine(open_set(folder), name=engine_name, variant="fused")
    rng = np.random.default_rng(5)
    batch = Batch(rng.standard_normal((len(LABELS), *networks.SHAPE)).astype(np.float32), LABELS)
    parameters = {name: value.copy() for name, value in engine.state().parameters.items()}
    direction = {name: rng.uniform(-1, 1, value.shape).astype(np.float32) for name, value in parameters.items()}
    terms = ("label", "soft", *HINTS) if soft == "kl" else ("soft",)
    for term in terms:
        moved(engine, parameters, direction, 0.0)
        _, gradients = engine.gradients(batch, only(term))
        expected = sum(float((gradients[name].astype(np.float64) * direction[name]).sum()) for name in parameters)
        ends = []
        for by in (0.01, -0.01):
            moved(engine, parameters, direction, by)
            ends.append(engine.losses(batch, only(term)).total)
        assert expected != 0.0, term
        assert (ends[0] - ends[1]) / 0.02 == pytest.approx(expected, rel=5e-3, abs=2e-5), term
