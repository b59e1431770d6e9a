"""Is a round counted as the board counts it, and does it fit only what it really takes?"""

from pathlib import Path

import msgspec
import pytest
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import save

from mmd.artifact.load import open_set
from mmd.config import Config
from mmd.errors import TrainingFailed
from mmd.training.plan import make_plan
from mmd_tools.fuse.network import read_network
from mmd_tools.shrink.budget import JUDGING_BYTES, Asking, Budget, measure_asking
from mmd_tools.step_process import process_bytes


@pytest.mark.parametrize("samples", [8, 75, 200])
def test_the_steps_are_those_of_the_boards_own_plan(samples: int, tiny_set: Path) -> None:
    artifact_set = open_set(tiny_set)
    defaults = artifact_set.manifest.training
    labels = {f"{place:04x}": place % 4 for place in range(samples)}
    plan = make_plan(1, artifact_set, Config(), labels=labels, holdout_ids=(), start_generation=0, now=0.0)
    budget = Budget(samples=samples, epochs=defaults.epochs, batch=defaults.batch_size, replay=defaults.replay, folds=4)
    assert budget.steps == plan.steps_in_all
    alone = make_plan(
        1,
        artifact_set,
        msgspec.structs.replace(Config(), gate=msgspec.structs.replace(Config().gate, folds=0)),
        labels=labels,
        holdout_ids=(),
        start_generation=0,
        now=0.0,
    )
    assert without_folds(budget).steps == alone.steps_in_all


def without_folds(budget: Budget) -> Budget:
    return Budget(samples=budget.samples, epochs=budget.epochs, batch=budget.batch, replay=budget.replay, folds=0)


def test_a_round_takes_its_steps_and_the_mentor_times_the_slowness_of_the_board() -> None:
    budget = Budget(samples=160, epochs=10, batch=32, folds=0, views=2, slowdown=4, asking=Asking(ms=5.0))
    assert budget.steps == 100
    assert budget.round_minutes(60.0) == pytest.approx((100 * 60 + 320 * 5) * 4 / 60_000)


def test_the_trainer_takes_its_process_the_mentor_and_the_judging() -> None:
    large = Asking(bytes=600 << 20)
    assert Budget(asking=large).trainer_bytes(100 << 20) == (700 << 20) + JUDGING_BYTES
    assert Budget(memory_bytes=512e6, asking=large).exceeded(100 << 20, 1.0) == ("memory",)
    assert Budget(memory_bytes=512e6).exceeded(100 << 20, 1.0) == ()


def test_a_set_is_opened_and_stepped_with_in_a_process_of_its_own(tiny_set: Path) -> None:
    assert 40 << 20 < process_bytes(tiny_set) < 400 << 20


def test_a_set_that_no_step_can_be_taken_of_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="No step could be taken of"):
        process_bytes(tmp_path)


def test_what_the_mentor_takes_is_at_least_its_weights(tmp_path: Path) -> None:
    mentor = read_network(save(ARCHITECTURES["VGG-16"][0](), tmp_path, "mentor.onnx"), "mentor")
    asking = measure_asking(mentor)
    assert asking.ms > 0
    assert asking.bytes > sum(tensor.ByteSize() for tensor in mentor.model.graph.initializer)
