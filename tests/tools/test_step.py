"""Does `mmd-tools step` compute what it says, and refuse what it cannot use?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tests.daemon.training.sets import WEIGHTS, batches, make_set

from mmd.artifact.load import ArtifactSet
from mmd.errors import InputRefused, MmdError, UsageError
from mmd.training.engines import open_engine
from mmd.training.ort_training import is_installed
from mmd_tools.step import step

Arrays = dict[str, NDArray[Any]]
Step = Callable[..., Arrays]

pytestmark = pytest.mark.skipif(not is_installed(), reason="a set can only be fused with onnxruntime-training")


@pytest.fixture(scope="module")
def artifact_set(tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    return make_set(tmp_path_factory.mktemp("step"))


@pytest.fixture
def call(artifact_set: ArtifactSet, tmp_path: Path) -> Step:
    """Run the command on arrays and return what it wrote, or raise what it raised."""

    def run(arrays: Arrays, *more: str, engine: str = "portable", steps: int = 3) -> Arrays:
        np.savez(tmp_path / "in.npz", **arrays)
        return invoke(artifact_set, tmp_path / "in.npz", tmp_path / "out.npz", *more, engine=engine, steps=steps)

    return run


def invoke(
    artifact_set: ArtifactSet, given: Path, out: Path, *more: str, engine: str = "portable", steps: int = 3
) -> Arrays:
    arguments = [str(artifact_set.folder), "--engine", engine, "--batches", str(given), "--steps", str(steps)]
    result = CliRunner().invoke(step, [*arguments, "--out", str(out), *more])
    if isinstance(result.exception, MmdError):
        raise result.exception
    assert result.exit_code == 0, result.output
    with np.load(out) as archive:
        return dict(archive)


def arrays_for(artifact_set: ArtifactSet, count: int = 2) -> Arrays:
    given = batches(artifact_set, count)
    return {
        "inputs": np.stack([batch.inputs for batch in given]),
        "labels": np.stack([batch.labels for batch in given]),
        "alpha": np.array(WEIGHTS.alpha),
        "gamma": np.array(WEIGHTS.gamma),
        "beta.0": np.array(WEIGHTS.betas[0]),
        "temperature": np.array(WEIGHTS.temperature),
        "learning_rate": np.array(0.002),
    }


def test_a_step_is_what_the_engine_computes(artifact_set: ArtifactSet, call: Step) -> None:
    results = call(arrays_for(artifact_set))
    engine = open_engine(artifact_set)
    first, second = batches(artifact_set, 2)
    _, gradients = engine.gradients(first, WEIGHTS)
    losses = [engine.step(batch, WEIGHTS, 0.002) for batch in (first, second, first)]
    np.testing.assert_allclose(results["losses"], [entry.total for entry in losses], rtol=1e-6)
    np.testing.assert_allclose(results["loss.hint.0"], [entry.hints[0] for entry in losses], rtol=1e-6)
    for name, value in engine.state().parameters.items():
        np.testing.assert_allclose(results[f"param.{name}"], value, atol=1e-6)
        np.testing.assert_allclose(results[f"grad.{name}"], gradients[name], atol=1e-6)


@pytest.mark.parametrize("variant", ["cached", "fused"])
def test_both_engines_write_the_same_names_and_nearly_the_same_numbers(
    artifact_set: ArtifactSet, call: Step, variant: str
) -> None:
    ours, theirs = (
        call(arrays_for(artifact_set), "--variant", variant, engine=engine) for engine in ("portable", "ort_training")
    )
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_one_batch_is_taken_at_every_step(artifact_set: ArtifactSet, call: Step) -> None:
    arrays = arrays_for(artifact_set, 1)
    alone = {name: value[0] if name in ("inputs", "labels") else value for name, value in arrays.items()}
    np.testing.assert_array_equal(call(alone)["losses"], call(arrays)["losses"])


def test_the_sets_own_schedule_is_the_default(artifact_set: ArtifactSet, call: Step) -> None:
    arrays = {name: value for name, value in arrays_for(artifact_set).items() if name in ("inputs", "labels")}
    schedule = artifact_set.manifest.loss.schedules[artifact_set.manifest.loss.default_schedule]
    results = call(arrays, steps=1)
    expected = (
        schedule.alpha[0][1] * results["loss.label"]
        + schedule.gamma[0][1] * results["loss.soft"]
        + schedule.beta[0][1] * artifact_set.manifest.loss.hint_weights[0] * results["loss.hint.0"]
    )
    np.testing.assert_allclose(results["losses"], expected, rtol=1e-5)


def test_coefficients_may_change_from_step_to_step(artifact_set: ArtifactSet, call: Step) -> None:
    arrays = arrays_for(artifact_set) | {"learning_rate": np.zeros(3), "alpha": np.array([0.0, 1.0, 2.0])}
    results = call(arrays)
    weighted = results["losses"] - np.array([0.0, 1.0, 2.0]) * results["loss.label"]
    assert weighted[0] == pytest.approx(weighted[2], rel=1e-5)


def test_the_mentors_outputs_may_be_given(artifact_set: ArtifactSet, call: Step) -> None:
    arrays = arrays_for(artifact_set, 1)
    (batch,) = batches(artifact_set, 1)
    assert batch.mentor is not None
    given = {name: value[None] for name, value in batch.mentor.items()}
    np.testing.assert_allclose(call(arrays | given)["losses"], call(arrays)["losses"], rtol=1e-6)
    logits = artifact_set.manifest.mentor_logits
    changed = call(arrays | given | {logits: given[logits] + np.arange(4, dtype=np.float32)})
    assert changed["loss.soft"][0] != pytest.approx(call(arrays)["loss.soft"][0], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": None}, "no array `inputs`"),
        ({"labels": None}, "no array `labels`"),
        ({"inputs": np.zeros((2, 8, 1, 8, 9), np.float32)}, "`inputs` has shape"),
        ({"inputs": np.zeros((8,), np.float32)}, "`inputs` has shape"),
        ({"inputs": np.full((2, 8, 1, 8, 8), np.nan, np.float32)}, "`inputs` holds something"),
        ({"labels": np.zeros((2, 7), np.int64)}, "`labels` is int64"),
        ({"labels": np.zeros((2, 8), np.float32)}, "`labels` is float32"),
        ({"labels": np.full((2, 8), 4)}, "label outside -1..3"),
        ({"alpha": np.zeros(5)}, "`alpha` holds 5 numbers"),
        ({"gamma": np.array("much")}, "`gamma` holds something"),
        ({"mentor/probe": np.zeros((2, 8, 3, 8, 8), np.float32)}, "`mentor/probe` has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(
    artifact_set: ArtifactSet, call: Step, change: dict[str, Any], message: str
) -> None:
    arrays = {name: value for name, value in (arrays_for(artifact_set) | change).items() if value is not None}
    with pytest.raises(InputRefused, match=message):
        call(arrays)


def test_a_file_that_is_no_npz_is_refused(artifact_set: ArtifactSet, tmp_path: Path) -> None:
    for name, content in (("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputRefused, match=name):
            invoke(artifact_set, tmp_path / name, tmp_path / "out.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(InputRefused, match="single array"):
        invoke(artifact_set, tmp_path / "single.npy", tmp_path / "out.npz")
    with pytest.raises(InputRefused, match=r"absent\.npz"):
        invoke(artifact_set, tmp_path / "absent.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_folder_that_does_not_exist_is_refused_before_anything_runs(
    artifact_set: ArtifactSet, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        invoke(artifact_set, tmp_path / "in.npz", tmp_path / "nowhere" / "out.npz")
