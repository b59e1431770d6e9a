"""Is a batch that is computed in parts the same step as the whole one?"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.daemon.training.sets import WEIGHTS, batches, make_set
from tests.daemon.training.test_engines import ENGINES, assert_equal_bits

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import TrainingFailed
from mmd.training import ort_training
from mmd.training.engine import UNLABELLED, Batch, Engine, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.recipe import ProbeRecipe

pytestmark = pytest.mark.skipif(
    not ort_training.is_installed(), reason="a set can only be fused where onnxruntime-training is installed"
)

RATE = 1e-3
HINTS = ("rmse", "mse", "cosine", "attention")
ALL_TERMS = LossWeights(alpha=0.7, betas=(0.4, 0.3, 0.2, 5.0), gamma=0.5, temperature=3.0)

Open = Callable[..., Engine]


@pytest.fixture(scope="module")
def artifact_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactSet]:
    """Every hint loss, and SGD: its step is as long as the gradient, which Adam's is not."""
    probes = tuple(ProbeRecipe(mentor="probe", mentee="probe", loss=loss) for loss in HINTS)
    optimizer = OptimizerSpec(kind="sgd", momentum=0.9, clip_norm=3.0)
    yield make_set(tmp_path_factory.mktemp("micro"), probe=probes, optimizer=optimizer)


def uneven(artifact_set: ArtifactSet, count: int, *, size: int = 20) -> list[Batch]:
    """Batches whose parts differ: the labels are at the end, the large values at the beginning."""
    made = []
    for batch in batches(artifact_set, count, size=size):
        labels = np.where(np.arange(size) < size * 0.6, UNLABELLED, np.abs(batch.labels))
        inputs = batch.inputs * np.linspace(3, 0.1, size, dtype=np.float32).reshape(-1, 1, 1, 1)
        made.append(Batch(inputs, labels, batch.mentor))
    return made


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("size", [1, 7, 8, 10, 19])
def test_gradients_and_losses_are_those_of_the_whole_batch(artifact_set: ArtifactSet, name: str, size: int) -> None:
    (batch,) = uneven(artifact_set, 1)
    expected, whole = open_engine(artifact_set, name=name).gradients(batch, ALL_TERMS)
    engine = open_engine(artifact_set, name=name, micro_batch=size)
    losses, gradients = engine.gradients(batch, ALL_TERMS)
    for found in (losses, engine.losses(batch, ALL_TERMS)):
        terms = [(each.total, each.label, each.soft, *each.hints) for each in (found, expected)]
        assert terms[0] == pytest.approx(terms[1], rel=1e-5)
    for key, gradient in gradients.items():
        scale = float(np.abs(whole[key]).max())
        np.testing.assert_allclose(gradient / scale, whole[key] / scale, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ENGINES)
def test_parameters_are_those_of_the_whole_batch_after_many_steps(artifact_set: ArtifactSet, name: str) -> None:
    whole, parts = (open_engine(artifact_set, name=name, micro_batch=size) for size in (0, 6))
    for batch in uneven(artifact_set, 20):
        expected = whole.step(batch, ALL_TERMS, RATE).total
        assert parts.step(batch, ALL_TERMS, RATE).total == pytest.approx(expected, rel=1e-4)
    assert parts.state().step == 20
    for key, value in whole.state().parameters.items():
        np.testing.assert_allclose(parts.state().parameters[key], value, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("name", ENGINES)
def test_equal_states_and_batches_end_in_equal_bits(artifact_set: ArtifactSet, name: str) -> None:
    given = uneven(artifact_set, 8)
    whole, begun, resumed = (open_engine(artifact_set, name=name, micro_batch=6) for _ in range(3))
    for engine, some in ((whole, given), (begun, given[:5])):
        for batch in some:
            engine.step(batch, ALL_TERMS, RATE)
    resumed.load(begun.state())
    for batch in given[5:]:
        resumed.step(batch, ALL_TERMS, RATE)
    assert_equal_bits(whole.state(), resumed.state())


def test_no_more_samples_are_computed_at_once(artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(artifact_set, micro_batch=6)
    seen: list[int] = []
    inner = engine._engine  # type: ignore[attr-defined]
    for method in ("gradients", "losses"):
        original = getattr(inner, method)
        monkeypatch.setattr(
            inner,
            method,
            lambda batch, weights, original=original: (seen.append(len(batch.inputs)), original(batch, weights))[1],
        )
    monkeypatch.setattr(inner, "step", lambda *_: pytest.fail("took the whole batch"))
    engine.step(uneven(artifact_set, 1)[0], ALL_TERMS, RATE)
    assert seen == [6, 6, 6, 2] * 2
    seen.clear()
    without_root = LossWeights(1.0, (0.0, 1.0, 1.0, 1.0), 1.0, 3.0)
    engine.step(uneven(artifact_set, 1)[0], without_root, RATE)
    assert seen == [6, 6, 6, 2]


def test_a_batch_that_fits_is_taken_as_it_is(artifact_set: ArtifactSet) -> None:
    whole, parts = (open_engine(artifact_set, micro_batch=size) for size in (0, 8))
    for batch in batches(artifact_set, 3):
        assert parts.step(batch, ALL_TERMS, RATE) == whole.step(batch, ALL_TERMS, RATE)
    assert_equal_bits(whole.state(), parts.state())


def test_a_batch_without_any_label_trains_on_the_mentor_alone(artifact_set: ArtifactSet) -> None:
    (batch,) = uneven(artifact_set, 1)
    unlabelled = Batch(batch.inputs, np.full_like(batch.labels, UNLABELLED), batch.mentor)
    losses = open_engine(artifact_set, micro_batch=6).step(unlabelled, ALL_TERMS, RATE)
    assert losses.label == 0.0
    assert losses.total == pytest.approx(open_engine(artifact_set).losses(unlabelled, ALL_TERMS).total, rel=1e-5)


def test_losses_that_are_not_finite_are_told(artifact_set: ArtifactSet) -> None:
    (batch,) = uneven(artifact_set, 1)
    inputs = batch.inputs.copy()
    inputs[11] = np.nan
    assert np.isnan(
        open_engine(artifact_set, micro_batch=6).step(Batch(inputs, batch.labels, batch.mentor), ALL_TERMS, RATE).total
    )


def test_too_few_betas_are_refused(artifact_set: ArtifactSet) -> None:
    (batch,) = uneven(artifact_set, 1)
    with pytest.raises(TrainingFailed, match=r"no beta\.1"):
        open_engine(artifact_set, micro_batch=6).step(batch, WEIGHTS, RATE)


def test_the_fused_variant_runs_the_mentor_on_the_parts_too(artifact_set: ArtifactSet, tmp_path: Path) -> None:
    (batch,) = uneven(artifact_set, 1)
    alone = Batch(batch.inputs, batch.labels)
    expected = open_engine(artifact_set, variant="fused").losses(alone, ALL_TERMS)
    found = open_engine(artifact_set, variant="fused", micro_batch=6).losses(alone, ALL_TERMS)
    assert found.total == pytest.approx(expected.total, rel=1e-5)
