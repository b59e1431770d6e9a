"""Do both engines compute the same, keep their promises, and say clearly what they cannot do?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.daemon.training.sets import WEIGHTS, batches, make_set

from mmd.artifact.load import ArtifactSet
from mmd.errors import ArtifactRefused, TrainingFailed, UsageError
from mmd.training import ort_training
from mmd.training.engine import Batch, Engine, LossWeights, TrainingState
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.feeds import Variant

NEEDS_TRAINING_BUILD = pytest.mark.skipif(
    not ort_training.is_installed(), reason="onnxruntime-training is not installed here"
)
ENGINES = ["portable", pytest.param("ort_training", marks=NEEDS_TRAINING_BUILD)]
RATE = 1e-3


@pytest.fixture(scope="module")
def artifact_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactSet]:
    if not ort_training.is_installed():
        pytest.skip("a set can only be fused where onnxruntime-training is installed")
    yield make_set(tmp_path_factory.mktemp("engines"))


def run(engine: Engine, given: list[Batch]) -> list[float]:
    return [engine.step(batch, WEIGHTS, RATE).total for batch in given]


def assert_equal_bits(left: TrainingState, right: TrainingState) -> None:
    assert left.step == right.step
    for field in ("parameters", "first_moments", "second_moments"):
        ours, theirs = getattr(left, field), getattr(right, field)
        assert {name: value.tobytes() for name, value in ours.items()} == {
            name: value.tobytes() for name, value in theirs.items()
        }


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("variant", ["cached", "fused"])
def test_both_engines_agree_over_fifty_steps(artifact_set: ArtifactSet, variant: Variant) -> None:
    portable, training = (open_engine(artifact_set, name=name, variant=variant) for name in ENGINE_NAMES)
    for batch in batches(artifact_set, 50, cached=variant == "cached"):
        ours, theirs = portable.step(batch, WEIGHTS, RATE), training.step(batch, WEIGHTS, RATE)
        for left, right in zip(
            (ours.total, ours.label, ours.soft, *ours.hints),
            (theirs.total, theirs.label, theirs.soft, *theirs.hints),
            strict=True,
        ):
            assert left == pytest.approx(right, rel=1e-4, abs=1e-6)
    for name, value in portable.state().parameters.items():
        np.testing.assert_allclose(value, training.state().parameters[name], atol=2e-5, err_msg=name)


@NEEDS_TRAINING_BUILD
def test_both_engines_give_the_same_gradients(artifact_set: ArtifactSet) -> None:
    (batch,) = batches(artifact_set, 1)
    ours, theirs = (open_engine(artifact_set, name=name).gradients(batch, WEIGHTS) for name in ENGINE_NAMES)
    assert ours[0].total == pytest.approx(theirs[0].total, rel=1e-6)
    assert list(ours[1]) == list(theirs[1])
    for name, gradient in ours[1].items():
        scale = float(np.abs(theirs[1][name]).max())
        np.testing.assert_allclose(gradient / scale, theirs[1][name] / scale, atol=5e-6, err_msg=name)


@NEEDS_TRAINING_BUILD
def test_the_cached_and_the_fused_variant_train_alike(artifact_set: ArtifactSet) -> None:
    cached, fused = (open_engine(artifact_set, variant=variant) for variant in ("cached", "fused"))
    given = batches(artifact_set, 5)
    assert run(cached, given) == pytest.approx(run(fused, given), rel=1e-5)


@NEEDS_TRAINING_BUILD
def test_state_moves_from_either_engine_to_the_other(artifact_set: ArtifactSet) -> None:
    given = batches(artifact_set, 10)
    for first, second in (ENGINE_NAMES, ENGINE_NAMES[::-1]):
        whole, begun, resumed = (open_engine(artifact_set, name=name) for name in (first, first, second))
        expected = run(whole, given)
        run(begun, given[:5])
        resumed.load(begun.state())
        assert resumed.state().step == 5
        assert run(resumed, given[5:]) == pytest.approx(expected[5:], rel=1e-4)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_states_and_batches_end_in_equal_bits(artifact_set: ArtifactSet, name: str, threads: int) -> None:
    given = batches(artifact_set, 12)
    whole, begun, resumed = (open_engine(artifact_set, name=name, threads=threads) for _ in range(3))
    run(whole, given)
    run(begun, given[:7])
    resumed.load(begun.state())
    run(resumed, given[7:])
    assert_equal_bits(whole.state(), resumed.state())


@pytest.mark.parametrize("name", ENGINES)
def test_gradients_change_nothing(artifact_set: ArtifactSet, name: str) -> None:
    first, second = batches(artifact_set, 2)
    engine = open_engine(artifact_set, name=name)
    engine.step(first, WEIGHTS, RATE)
    before = engine.state()
    losses, gradients = engine.gradients(second, WEIGHTS)
    assert_equal_bits(before, engine.state())
    assert engine.step(second, WEIGHTS, RATE).total == losses.total
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("name", ENGINES)
def test_a_state_that_was_given_out_is_a_copy(artifact_set: ArtifactSet, name: str) -> None:
    engine = open_engine(artifact_set, name=name)
    (batch,) = batches(artifact_set, 1)
    before = engine.state()
    kept = {key: value.copy() for key, value in before.parameters.items()}
    engine.step(batch, WEIGHTS, RATE)
    assert all((before.parameters[key] == value).all() for key, value in kept.items())
    assert any((engine.state().parameters[key] != value).any() for key, value in kept.items())


@pytest.mark.parametrize("name", ENGINES)
def test_the_total_is_the_sum_of_its_weighted_terms(artifact_set: ArtifactSet, name: str) -> None:
    (batch,) = batches(artifact_set, 1)
    losses, _ = open_engine(artifact_set, name=name).gradients(batch, WEIGHTS)
    expected = WEIGHTS.alpha * losses.label + WEIGHTS.gamma * losses.soft + WEIGHTS.betas[0] * losses.hints[0]
    assert losses.total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_without_any_label_trains_on_the_mentor_alone(artifact_set: ArtifactSet, name: str) -> None:
    (batch,) = batches(artifact_set, 1)
    engine = open_engine(artifact_set, name=name)
    losses = engine.step(Batch(batch.inputs, np.full_like(batch.labels, -1), batch.mentor), WEIGHTS, RATE)
    assert losses.label == 0.0
    assert losses.total > 0
    assert np.isfinite(engine.step(batch, WEIGHTS, RATE).total)


@pytest.mark.parametrize("name", ENGINES)
def test_the_last_batch_of_an_epoch_may_be_smaller(artifact_set: ArtifactSet, name: str) -> None:
    engine = open_engine(artifact_set, name=name)
    for size in (8, 3, 1, 8):
        assert all(np.isfinite(total) for total in run(engine, batches(artifact_set, 1, size=size)))


@pytest.mark.parametrize("name", ENGINES)
def test_memory_does_not_grow_over_steps(artifact_set: ArtifactSet, name: str) -> None:
    engine = open_engine(artifact_set, name=name)
    given = batches(artifact_set, 4)
    process = psutil.Process()
    run(engine, given * 25)
    before = process.memory_info().rss
    run(engine, given * 150)
    assert process.memory_info().rss - before < 4 * 2**20


@pytest.mark.parametrize("name", ENGINES)
def test_a_foreign_state_is_refused_by_the_name_of_its_tensor(artifact_set: ArtifactSet, name: str) -> None:
    engine = open_engine(artifact_set, name=name)
    state = engine.state()
    first = next(iter(state.parameters))
    smaller = {**state.parameters, first: np.zeros(3, np.float32)}
    missing = {key: value for key, value in state.first_moments.items() if key != first}
    unknown = {**state.second_moments, "stranger": np.zeros(1, np.float32)}
    with pytest.raises(ArtifactRefused, match=f"parameter {first} has shape"):
        engine.load(TrainingState(0, smaller, state.first_moments, state.second_moments))
    with pytest.raises(ArtifactRefused, match=f"first moment {first} is missing"):
        engine.load(TrainingState(0, state.parameters, missing, state.second_moments))
    with pytest.raises(ArtifactRefused, match="second moment stranger belongs to another"):
        engine.load(TrainingState(0, state.parameters, state.first_moments, unknown))
    with pytest.raises(ArtifactRefused, match="-1 steps"):
        engine.load(TrainingState(-1, state.parameters, state.first_moments, state.second_moments))
    assert_equal_bits(state, engine.state())


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_without_the_mentors_outputs_is_refused_by_the_cached_variant(
    artifact_set: ArtifactSet, name: str
) -> None:
    (batch,) = batches(artifact_set, 1, cached=False)
    with pytest.raises(TrainingFailed, match="The batch has no mentor/"):
        open_engine(artifact_set, name=name).step(batch, WEIGHTS, RATE)


@pytest.mark.parametrize("name", ENGINES)
def test_too_few_betas_are_refused(artifact_set: ArtifactSet, name: str) -> None:
    (batch,) = batches(artifact_set, 1)
    with pytest.raises(TrainingFailed, match=r"no beta\.0"):
        open_engine(artifact_set, name=name).step(batch, LossWeights(1.0, (), 1.0, 1.0), RATE)


def test_auto_is_the_engine_that_runs_everywhere(artifact_set: ArtifactSet) -> None:
    assert open_engine(artifact_set).name == "portable"


def test_an_unknown_engine_is_refused_with_the_known_names(artifact_set: ArtifactSet) -> None:
    with pytest.raises(UsageError, match="portable, ort_training"):
        open_engine(artifact_set, name="tpu")


def test_the_training_build_is_asked_for_by_name_where_it_is_missing(
    artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_training, "is_installed", lambda: False)
    with pytest.raises(ArtifactRefused, match="onnxruntime-training-cpu"):
        open_engine(artifact_set, name="ort_training")


@NEEDS_TRAINING_BUILD
def test_the_layer_that_kills_the_training_build_is_refused_before_it_runs(
    artifact_set: ArtifactSet, tmp_path: Path
) -> None:
    graphs = artifact_set.manifest.graphs
    for name in artifact_set.manifest.files:
        (tmp_path / name).write_bytes(artifact_set.path(name).read_bytes())
    (tmp_path / graphs.training_cached).write_bytes(b"... AveragePoolGrad ...")
    damaged = ArtifactSet(tmp_path, artifact_set.manifest, artifact_set.sha256)
    with pytest.raises(ArtifactRefused, match="crashes on the AveragePool"):
        open_engine(damaged, name="ort_training")
