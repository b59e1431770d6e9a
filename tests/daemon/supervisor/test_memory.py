"""Does the daemon learn from trainers that ran out of memory, no more than that, and not for ever?"""

from pathlib import Path

import pytest
from tests.plans import round_plan

from mmd.config import Config, DaemonConfig, TrainingConfig
from mmd.layout import StateDir
from mmd.supervisor.memory import learn, lesson_in_force, note_success, read_lesson, with_lesson
from mmd.training.plan import RoundPlan

CONFIG = Config()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def plan(micro_batch: int = 0, batch_size: int = 20) -> RoundPlan:
    return round_plan(batch_size=batch_size, micro_batch=micro_batch)


def run_out(state: StateDir, times: int, *, of: RoundPlan) -> list[int | None]:
    return [learn(state, CONFIG, of).micro_batch for _ in range(times)]


def test_the_third_round_in_a_row_halves_what_is_computed_at_once(state: StateDir) -> None:
    assert run_out(state, 3, of=plan(batch_size=21)) == [None, None, 11]
    assert with_lesson(state, CONFIG).training.micro_batch == 11
    assert run_out(state, 3, of=plan(11)) == [11, 11, 6]


def test_a_single_sample_is_not_halved(state: StateDir) -> None:
    assert run_out(state, 3, of=plan(2)) == [None, None, 1]
    assert run_out(state, 7, of=plan(1)) == [1] * 7
    assert lesson_in_force(state, CONFIG) is not None
    assert "; fewer is not possible." in learn(state, CONFIG, plan(1)).told()


def test_a_round_with_memory_enough_begins_the_count_anew_and_keeps_the_size(state: StateDir) -> None:
    run_out(state, 3, of=plan())
    run_out(state, 2, of=plan(10))
    note_success(state)
    assert run_out(state, 2, of=plan(10)) == [10, 10]


def test_more_memory_lets_the_lesson_be_forgotten(state: StateDir) -> None:
    run_out(state, 3, of=plan())
    generous = Config(daemon=DaemonConfig(trainer_memory_mib=CONFIG.daemon.trainer_memory_mib + 1))
    assert with_lesson(state, generous) == generous
    assert learn(state, generous, plan()).rounds == 1


@pytest.mark.parametrize(("configured", "expected"), [(None, 10), (4, 4), (16, 10)])
def test_the_smaller_micro_batch_counts(state: StateDir, configured: int | None, expected: int) -> None:
    run_out(state, 3, of=plan())
    config = Config(training=TrainingConfig(micro_batch=configured))
    assert with_lesson(state, config).training.micro_batch == expected


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"memory_mib": "much"}'])
def test_a_damaged_lesson_is_none(state: StateDir, content: bytes) -> None:
    state.memory_file.write_bytes(content)
    assert read_lesson(state) is None
    assert with_lesson(state, CONFIG) == CONFIG
    note_success(state)
    assert learn(state, CONFIG, plan()).rounds == 1


def test_what_is_learned_is_told(state: StateDir) -> None:
    told = [learn(state, CONFIG, plan()).told() for _ in range(3)]
    start = "The trainer ran out of the 1024 MiB that `daemon.trainer_memory_mib` allows it"
    assert told == [
        f"{start} in a round.",
        f"{start} in 2 rounds in a row.",
        f"{start}, so it computes no more than 10 samples at once.",
    ]
    assert learn(state, CONFIG, plan(10)).told() == (
        f"{start}, so it computes no more than 10 samples at once, and again in 1 since."
    )
