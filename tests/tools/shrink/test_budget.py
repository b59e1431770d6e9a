"""Is a round counted as the board counts it, and does it fit only what it really takes?"""

from pathlib import Path

import msgspec
import pytest
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import save

from mmd.artifact.load import open_set
from mmd.config import Config
from mmd.training.plan import make_plan
from mmd.training.variant import RUNTIME_BYTES
from mmd_tools.fuse.network import read_network
from mmd_tools.shrink.budget import Asking, Budget, measure_asking


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


def test_the_trainer_takes_the_runtime_and_the_larger_of_a_step_and_the_mentor() -> None:
    small, large = Asking(bytes=1 << 20), Asking(bytes=600 << 20)
    assert Budget(asking=small).trainer_bytes(10 << 20) == RUNTIME_BYTES + (10 << 20)
    assert Budget(asking=large).trainer_bytes(10 << 20) == RUNTIME_BYTES + (600 << 20)
    assert Budget(memory_bytes=512e6, asking=large).exceeded(10 << 20, 1.0) == ("memory",)


def test_what_the_mentor_takes_is_at_least_its_weights(tmp_path: Path) -> None:
    mentor = read_network(save(ARCHITECTURES["VGG-16"][0](), tmp_path, "mentor.onnx"), "mentor")
    asking = measure_asking(mentor)
    assert asking.ms > 0
    assert asking.bytes > sum(tensor.ByteSize() for tensor in mentor.model.graph.initializer)
