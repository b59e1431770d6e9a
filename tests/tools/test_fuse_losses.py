"""Do the losses of the step equal their formulas? Compared with numpy in double precision."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.tools import networks
from tests.tools.networks import plain, recipe, run, save

from mmd.artifact.load import open_set
from mmd.artifact.session import open_session
from mmd.training.engine import Batch, LossWeights, StepLosses
from mmd.training.engines import open_engine
from mmd.training.mentor_outputs import CachedMentor, target_bytes
from mmd.training.rows import ArrayInputs
from mmd_tools.fuse import fuse
from mmd_tools.fuse.losses import HINT_LOSSES, SOFT_LOSSES, label_loss
from mmd_tools.recipe import LossRecipe, ProbeRecipe
from mmd_tools.verify import verify

pytestmark = networks.NEEDS_TRAINING_BUILD

Doubles = NDArray[np.float64]
TEMPERATURE = 3.0
WEIGHTS = LossWeights(alpha=0.7, betas=(1.3,), gamma=0.4, temperature=TEMPERATURE)


def log_softmax(z: Doubles) -> Doubles:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def rows(x: Doubles) -> Doubles:
    return x.reshape(len(x), -1)


def attention_map(x: Doubles) -> Doubles:
    energy = rows((x**2).mean(1))
    return energy / np.linalg.norm(energy, axis=1, keepdims=True)


def cosine(s: Doubles, m: Doubles) -> float:
    s, m = rows(s), rows(m)
    return float(1 - np.mean((s * m).sum(1) / (np.linalg.norm(s, axis=1) * np.linalg.norm(m, axis=1))))


def likeness(x: Doubles) -> Doubles:
    products = rows(x) @ rows(x).T
    return products / np.linalg.norm(products, axis=1, keepdims=True)


def divergence(p: Doubles, q: Doubles) -> Doubles:
    """KL(p || q) a row; 0 log 0 = 0."""
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum(1)


def kl(small: Doubles, big: Doubles, labels: list[int]) -> float:
    ours, theirs = (np.exp(log_softmax(z / TEMPERATURE)) for z in (small, big))
    return float(TEMPERATURE**2 * divergence(theirs, ours).mean())


def dkd(small: Doubles, big: Doubles, labels: list[int]) -> float:
    """Row by row: 1.5 on the target against the rest, 4 among the rest; the Mentor's favourite for want of a label."""
    total = 0.0
    for ours, theirs, label in zip(small, big, labels, strict=True):
        target = label if label >= 0 else int(theirs.argmax())
        p, q = (np.exp(log_softmax(z[None] / TEMPERATURE))[0] for z in (theirs, ours))
        two_p, two_q = (np.array([[v[target], 1 - v[target]]]) for v in (p, q))
        rest_p, rest_q = (np.delete(v, target)[None] / (1 - v[target]) for v in (p, q))
        total += 1.5 * divergence(two_p, two_q)[0] + 4.0 * divergence(rest_p, rest_q)[0]
    return TEMPERATURE**2 * total / len(small)


SOFT_FORMULAS: dict[str, Callable[[Doubles, Doubles, list[int]], float]] = {
    "kl": kl,
    "mse": lambda small, big, labels: float(np.mean((small - big) ** 2)),
    "dkd": dkd,
}
SOFT_RECIPES = {
    "kl": LossRecipe(),
    "mse": LossRecipe(soft="mse"),
    "dkd": LossRecipe(soft="dkd", tckd_weight=1.5, nckd_weight=4.0),
}

FORMULAS: dict[str, Callable[[Doubles, Doubles], float]] = {
    "rmse": lambda s, m: float(np.sqrt(np.mean((s - m) ** 2))),
    "mse": lambda s, m: float(np.mean((s - m) ** 2)),
    "cosine": cosine,
    "attention": lambda s, m: float(np.mean((attention_map(s) - attention_map(m)) ** 2)),
    "similarity": lambda s, m: float(np.mean((likeness(s) - likeness(m)) ** 2)),
}


def features(model: onnx.ModelProto, tensor: str, x: np.ndarray) -> Doubles:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return run(shown, {"x": x})[0].astype(np.float64)


def losses_of(
    folder: Path, loss: str, labels: list[int], terms: LossRecipe | None = None
) -> tuple[StepLosses, np.ndarray]:
    """Fuse two plain networks with one probe, and return the losses of one batch and its inputs."""
    folder.mkdir(exist_ok=True)
    probe = ProbeRecipe(mentor="relu1", mentee="relu1", loss=loss)  # type: ignore[arg-type]
    big, small = save(plain(4, seed=9), folder, "M.onnx"), save(plain(4), folder, "S.onnx")
    fuse(big, small, recipe(folder, probe=(probe,), loss=terms or LossRecipe()), folder / "set")
    x = np.random.default_rng(3).standard_normal((len(labels), *networks.SHAPE)).astype(np.float32)
    engine = open_engine(open_set(folder / "set"), variant="fused")
    return engine.gradients(Batch(x, np.array(labels, np.int64)), WEIGHTS)[0], x


def test_every_term_has_a_formula() -> None:
    assert FORMULAS.keys() == HINT_LOSSES.keys()
    assert SOFT_FORMULAS.keys() == SOFT_RECIPES.keys() == SOFT_LOSSES.keys()


@pytest.mark.parametrize("term", [label_loss, *HINT_LOSSES.values(), *SOFT_LOSSES.values()])
def test_every_term_says_its_formula_and_where_it_is_from(term: Callable[..., None]) -> None:
    told = term.__doc__ or ""
    assert re.search(r"mean|SUM", told)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", told)


@pytest.mark.parametrize("soft", SOFT_FORMULAS)
def test_each_soft_loss_equals_its_formula(soft: str, tmp_path: Path) -> None:
    labels = [0, 3, -1, 1, -1]
    losses, x = losses_of(tmp_path, "mse", labels, SOFT_RECIPES[soft])
    small, big = (features(plain(4, seed=seed), "gemm4", x) for seed in (0, 9))
    expected = SOFT_FORMULAS[soft](small, big, labels)
    assert losses.soft == pytest.approx(expected, rel=1e-4)
    assert losses.total == pytest.approx(0.7 * losses.label + 0.4 * expected + 1.3 * losses.hints[0], rel=1e-4)


def test_the_decoupled_parts_weighted_as_they_come_are_the_divergence(tmp_path: Path) -> None:
    """KL = TCKD + (1 - p[t]) NCKD: with the second part off, what is left of KL is the share of the others."""
    x = np.random.default_rng(3).standard_normal((1, *networks.SHAPE)).astype(np.float32)
    found = {}
    for name, weights in {"tckd": (1.0, 0.0), "nckd": (0.0, 1.0)}.items():
        terms = LossRecipe(soft="dkd", tckd_weight=weights[0], nckd_weight=weights[1])
        found[name] = losses_of(tmp_path / name, "mse", [2], terms)[0].soft
    big = features(plain(4, seed=9), "gemm4", x)
    rest = 1 - np.exp(log_softmax(big / TEMPERATURE))[0, 2]
    whole = kl(features(plain(4), "gemm4", x), big, [2])
    assert found["tckd"] + rest * found["nckd"] == pytest.approx(whole, rel=1e-4)


def test_label_smoothing_spreads_a_share_over_every_class(tmp_path: Path) -> None:
    labels = [0, 3, -1, 1, -1]
    losses, x = losses_of(tmp_path, "mse", labels, LossRecipe(label_smoothing=0.2))
    small = log_softmax(features(plain(4), "gemm4", x))
    rows_with_label = [(row, label) for row, label in enumerate(labels) if label >= 0]
    expected = np.mean([-0.8 * small[row, label] - 0.2 * small[row].mean() for row, label in rows_with_label])
    assert losses.label == pytest.approx(expected, rel=1e-5)
    assert [(check.name, check.detail) for check in verify(tmp_path / "set") if not check.passed] == []


def test_label_smoothing_gives_no_share_to_a_spare_output(tmp_path: Path) -> None:
    small = plain(4, classes=6)
    big = save(plain(4, seed=9), tmp_path, "M.onnx")
    asked = recipe(tmp_path, spare_classes=2, loss=LossRecipe(label_smoothing=0.2))
    fuse(big, save(small, tmp_path, "S.onnx"), asked, tmp_path / "set")
    labels = [0, 3, -1, 5]
    x = np.random.default_rng(3).standard_normal((len(labels), *networks.SHAPE)).astype(np.float32)
    weights = LossWeights(alpha=1.0, betas=(), gamma=0.0, temperature=1.0)
    engine = open_engine(open_set(tmp_path / "set"), variant="fused")
    losses, _ = engine.gradients(Batch(x, np.array(labels, np.int64)), weights)
    log_p = log_softmax(features(small, "gemm4", x))
    expected = np.mean([-0.8 * log_p[row, labels[row]] - 0.2 * log_p[row, :4].mean() for row in (0, 1, 3)])
    assert losses.label == pytest.approx(expected, rel=1e-5)
    assert [(check.name, check.detail) for check in verify(tmp_path / "set") if not check.passed] == []


def test_a_saturated_mentor_and_mentee_give_finite_decoupled_losses(tmp_path: Path) -> None:
    losses, gradients = extreme(tmp_path)
    assert np.isfinite([losses.soft, losses.total]).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def extreme(folder: Path) -> tuple[StepLosses, dict[str, np.ndarray]]:
    """Logits of several hundred, on which a softened probability is exactly 0 or 1."""
    big, small = save(plain(4, seed=9), folder, "M.onnx"), save(plain(4), folder, "S.onnx")
    fuse(big, small, recipe(folder, loss=LossRecipe(soft="dkd")), folder / "set")
    x = 500 * np.random.default_rng(3).standard_normal((4, *networks.SHAPE)).astype(np.float32)
    weights = LossWeights(alpha=0.0, betas=(), gamma=1.0, temperature=1.0)
    engine = open_engine(open_set(folder / "set"), variant="fused")
    return engine.gradients(Batch(x, np.array([0, 1, -1, -1], np.int64)), weights)


@pytest.mark.parametrize("loss", FORMULAS)
def test_each_term_equals_its_formula(loss: str, tmp_path: Path) -> None:
    labels = [0, 3, -1, 1, -1]
    losses, x = losses_of(tmp_path, loss, labels)
    small, big = (features(plain(4, seed=seed), "gemm4", x) for seed in (0, 9))
    soft_small, soft_big = log_softmax(small / TEMPERATURE), log_softmax(big / TEMPERATURE)
    kl = np.mean((np.exp(soft_big) * (soft_big - soft_small)).sum(1))
    labelled = [row for row, label in enumerate(labels) if label >= 0]
    label_loss = -np.mean([log_softmax(small)[row, labels[row]] for row in labelled])
    hint = FORMULAS[loss](features(plain(4), "relu1", x), features(plain(4, seed=9), "relu1", x))
    assert losses.label == pytest.approx(label_loss, rel=1e-5)
    assert losses.soft == pytest.approx(TEMPERATURE**2 * kl, rel=1e-4)
    assert losses.hints[0] == pytest.approx(hint, rel=1e-5)
    assert losses.total == pytest.approx(0.7 * label_loss + 0.4 * losses.soft + 1.3 * hint, rel=1e-5)


def test_of_attention_the_board_keeps_one_number_a_place(tmp_path: Path) -> None:
    losses, x = losses_of(tmp_path, "attention", [0, 1, 2])
    artifact_set = open_set(tmp_path / "set")
    manifest = artifact_set.manifest
    (probe,) = manifest.probes
    layer = features(plain(4, seed=9), "relu1", x)
    assert (probe.mentor, probe.mentor_layer) == ("target/0", "mentor/relu1")
    assert probe.mentor_shape == (layer[0, 0].size,)
    outputs = CachedMentor(artifact_set, ArrayInputs(x)).rows(np.arange(3), np.zeros(3, np.int64))
    np.testing.assert_allclose(outputs["target/0"], attention_map(layer), rtol=1e-3)
    assert target_bytes(manifest) == 2 * (layer[0, 0].size + len(manifest.classes))
    cached, _ = open_engine(artifact_set).gradients(Batch(x, np.array([0, 1, 2]), outputs), WEIGHTS)
    assert cached.hints[0] == pytest.approx(losses.hints[0], rel=1e-2)


def test_of_similarity_the_board_keeps_the_layer_whole(tmp_path: Path) -> None:
    losses_of(tmp_path, "similarity", [0, 1])
    manifest = open_set(tmp_path / "set").manifest
    (probe,) = manifest.probes
    assert (probe.mentor, probe.mentor_shape) == ("mentor/relu1", (4, 8, 8))
    assert target_bytes(manifest) == 2 * (4 * 8 * 8 + len(manifest.classes))


def test_a_batch_without_labels_has_no_label_loss(tmp_path: Path) -> None:
    losses, _ = losses_of(tmp_path, "mse", [-1, -1, -1])
    assert losses.label == 0.0
    assert np.isfinite(losses.total)


def test_a_mentee_equal_to_its_mentor_has_nothing_to_learn_from_it(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="relu1", mentee="relu1")
    same = save(plain(4), tmp_path, "M.onnx")
    fuse(same, same, recipe(tmp_path, probe=(probe,)), tmp_path / "set")
    x = np.random.default_rng(3).standard_normal((4, *networks.SHAPE)).astype(np.float32)
    weights = LossWeights(alpha=0.0, betas=(1.0,), gamma=1.0, temperature=2.0)
    losses, gradients = open_engine(open_set(tmp_path / "set"), variant="fused").gradients(
        Batch(x, np.full(4, -1, np.int64)), weights
    )
    assert losses.soft == pytest.approx(0.0, abs=1e-6)
    assert losses.hints[0] == pytest.approx(0.0, abs=2e-4)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize(("mentor", "mentee"), [("relu1", "maxpool2"), ("maxpool2", "relu1")])
def test_the_larger_map_is_averaged_down(mentor: str, mentee: str, tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor=mentor, mentee=mentee, loss="mse")
    big, small = save(plain(4, seed=9), tmp_path, "M.onnx"), save(plain(4), tmp_path, "S.onnx")
    fuse(big, small, recipe(tmp_path, probe=(probe,)), tmp_path / "set")
    x = np.random.default_rng(3).standard_normal((3, *networks.SHAPE)).astype(np.float32)
    losses, _ = open_engine(open_set(tmp_path / "set"), variant="fused").gradients(
        Batch(x, np.zeros(3, np.int64)), WEIGHTS
    )
    ours, theirs = features(plain(4), mentee, x), features(plain(4, seed=9), mentor, x)
    ours, theirs = (f if f.shape[2] == 4 else f.reshape(3, 4, 4, 2, 4, 2).mean((3, 5)) for f in (ours, theirs))
    assert losses.hints[0] == pytest.approx(FORMULAS["mse"](ours, theirs), rel=1e-5)


def test_the_mentor_of_the_set_gives_what_the_file_gave(tmp_path: Path) -> None:
    losses_of(tmp_path, "mse", [0, 1])
    x = np.random.default_rng(5).standard_normal((2, *networks.SHAPE)).astype(np.float32)
    logits, hidden = open_session(tmp_path / "set" / "mentor.onnx").run(["mentor/gemm4", "mentor/relu1"], {"x": x})
    np.testing.assert_allclose(logits, features(plain(4, seed=9), "gemm4", x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(hidden, features(plain(4, seed=9), "relu1", x), rtol=1e-4, atol=1e-5)
