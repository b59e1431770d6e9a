"""Do loss and gradient of every term equal PyTorch's, written with its own functions?

PyTorch is not a dependency of the tests: it is of the `bench` extra. To run these beside an installation that has it:
`PYTHONPATH=VENV/lib/python3.11/site-packages pytest tests/tools/test_fuse_torch.py`, the folder of that one behind.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tools import networks
from tests.tools.networks import recipe, save
from tests.tools.test_fuse_slopes import HINTS, LABELS, PROBES, only, smooth

from mmd.artifact.load import open_set
from mmd.training.engine import Batch, Floats
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.recipe import LossRecipe

torch: Any = pytest.importorskip("torch", reason="the reference is PyTorch, of the bench extra; it is not installed")
functional: Any = pytest.importorskip("torch.nn.functional", reason="the reference is PyTorch, of the bench extra")

pytestmark = networks.NEEDS_TRAINING_BUILD

T = 2.0
Term = Callable[[Any, Any, Any, Any], Any]


def network(weights: Mapping[str, Any], x: Any) -> tuple[Any, Any]:
    """`smooth` of the slopes: features [n, channels, 8, 8] and logits."""
    features = torch.tanh(functional.conv2d(x, weights["w0"], weights["w1"], padding=1))
    return features, functional.linear(features.mean((2, 3)), weights["w2"], weights["w3"])


def label(ours: Any, theirs: Any, labels: Any, smoothing: float = 0.1) -> Any:
    return functional.cross_entropy(ours, labels, ignore_index=-1, label_smoothing=smoothing)


def kl(ours: Any, theirs: Any, labels: Any) -> Any:
    soft = functional.log_softmax(ours / T, 1), functional.softmax(theirs / T, 1)
    return functional.kl_div(*soft, reduction="batchmean") * T**2


def mse(ours: Any, theirs: Any, labels: Any) -> Any:
    return functional.mse_loss(ours, theirs)


def dkd(ours: Any, theirs: Any, labels: Any) -> Any:
    """As the paper has it, for a target that is the label or the Mentor's favourite; weights 1 and 8."""
    target = torch.where(labels >= 0, labels, theirs.argmax(1))
    mask = functional.one_hot(target, ours.shape[1]).bool()
    q, p = functional.softmax(ours / T, 1), functional.softmax(theirs / T, 1)
    two_q = torch.stack([(q * mask).sum(1), (q * ~mask).sum(1)], 1)
    two_p = torch.stack([(p * mask).sum(1), (p * ~mask).sum(1)], 1)
    tckd = functional.kl_div(two_q.log(), two_p, reduction="batchmean")
    rest = [z[~mask].reshape(len(z), -1) / T for z in (ours, theirs)]
    nckd = functional.kl_div(functional.log_softmax(rest[0], 1), functional.softmax(rest[1], 1), reduction="batchmean")
    return (tckd + 8 * nckd) * T**2


def attention_map(x: Any) -> Any:
    return functional.normalize(x.pow(2).mean(1).flatten(1))


def likeness(x: Any) -> Any:
    return functional.normalize(x.flatten(1) @ x.flatten(1).T)


HINT_REFERENCES: dict[str, Callable[[Any, Any], Any]] = {
    "rmse": lambda s, m: functional.mse_loss(s, m).sqrt(),
    "mse": functional.mse_loss,
    "cosine": lambda s, m: 1 - functional.cosine_similarity(s.flatten(1), m.flatten(1)).mean(),
    "attention": lambda s, m: functional.mse_loss(attention_map(s), attention_map(m)),
    "similarity": lambda s, m: functional.mse_loss(likeness(s), likeness(m)),
}
SOFT_REFERENCES = {"kl": kl, "mse": mse, "dkd": dkd}


@pytest.fixture(scope="module", params=SOFT_REFERENCES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    asked = recipe(folder, probe=PROBES, loss=LossRecipe(soft=request.param, label_smoothing=0.1))
    fuse(save(smooth(5, 9), folder, "M.onnx"), save(smooth(3, 1), folder, "S.onnx"), asked, folder / "set")
    return request.param, folder / "set"


def reference(term: str, soft: str, parameters: Mapping[str, Floats], x: Floats) -> tuple[float, dict[str, Floats]]:
    """Return loss and gradients of one term, from PyTorch."""
    from onnx import numpy_helper

    weights = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in parameters.items()}
    frozen = {t.name: torch.tensor(numpy_helper.to_array(t)).double() for t in smooth(5, 9).graph.initializer}
    inputs, labels = torch.tensor(x).double(), torch.tensor(LABELS)
    (features, logits), (mentor_features, mentor_logits) = network(weights, inputs), network(frozen, inputs)
    if term == "label":
        loss = label(logits, mentor_logits, labels)
    elif term == "soft":
        loss = SOFT_REFERENCES[soft](logits, mentor_logits, labels)
    else:
        projector = weights.get(f"projector.{HINTS.index(term)}.weight")
        ours = features if projector is None else functional.conv2d(features, projector)
        loss = HINT_REFERENCES[term](ours, mentor_features)
    loss.backward()
    zero = {name: np.zeros_like(value) for name, value in parameters.items()}
    return float(loss.detach()), zero | {n: w.grad.numpy() for n, w in weights.items() if w.grad is not None}


def test_every_term_has_a_reference() -> None:
    assert HINT_REFERENCES.keys() == set(HINTS)


@pytest.mark.parametrize("engine_name", ["portable", "ort_training"])
def test_each_term_and_its_gradient_are_pytorchs(built: tuple[str, Path], engine_name: str) -> None:
    soft, folder = built
    engine = open_engine(open_set(folder), name=engine_name, variant="fused")
    x = np.random.default_rng(5).standard_normal((len(LABELS), *networks.SHAPE)).astype(np.float32)
    for term in ("label", "soft", *HINTS) if soft == "kl" else ("soft",):
        losses, gradients = engine.gradients(Batch(x, LABELS), only(term))
        expected, slopes = reference(term, soft, engine.state().parameters, x)
        assert losses.total == pytest.approx(expected, rel=2e-5), term
        largest = max(float(np.abs(slope).max()) for slope in slopes.values())
        for name, slope in slopes.items():
            np.testing.assert_allclose(gradients[name], slope, atol=2e-5 * largest, err_msg=f"{term} {name}")
