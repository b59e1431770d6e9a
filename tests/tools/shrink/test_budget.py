"""Is a round counted as the board counts it, and does it fit only what it really takes?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.tiny import tiny_board
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import save

from mmd.artifact.load import open_set
from mmd.artifact.session import open_session
from mmd.config import Config, TrainingConfig
from mmd.errors import TrainingFailed
from mmd.promotion import evaluate, memory
from mmd.supervisor import trainer
from mmd.supervisor.rounds import begin_round
from mmd.training.plan import make_plan
from mmd_tools.fuse.network import read_network
from mmd_tools.shrink.budget import FEEDING_MS, JUDGING_BYTES, LOADING_MS, Asking, Budget, Taking, measure_asking
from mmd_tools.step_process import process_cost


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
    taking = Taking(60.0)
    took = 100 * (60 + FEEDING_MS) + 320 * 5 + budget.beside_ms(taking)
    assert budget.round_minutes(taking) == pytest.approx(took * 4 / 60_000)


def test_a_round_begins_with_a_start_and_ends_with_judging() -> None:
    budget = Budget(samples=150, folds=0, candidates=2, anchor=100, slowdown=2, asking=Asking(start_ms=700.0))
    # 50 held out and the anchor set, by three networks; 150 remembered by both candidates.
    assert budget.answers == (50 + 100) * 3 + 150 * 2
    assert budget.openings == 2 * 2 + 3 * 2
    taking = Taking(step_ms=0.0, start_ms=1000.0, open_ms=10.0, answer_ms=1.0)
    assert budget.beside_ms(taking) == pytest.approx(LOADING_MS + 700 + 1000 + 100 + budget.answers)
    assert budget.round_minutes(taking) == pytest.approx((budget.beside_ms(taking) + 100 * FEEDING_MS) * 2 / 60_000)
    assert budget.exceeded(0, taking) == ()
    assert Budget(minutes=0.01).exceeded(0, taking) == ("time",)


class Asked:
    """Counts the networks that are opened, and the samples that they are asked about."""

    def __init__(self) -> None:
        self.networks = 0
        self.samples = 0

    def open_session(self, model: bytes, **options: Any) -> Any:
        session = open_session(model, **options)
        self.networks += 1
        return SimpleNamespace(run=lambda names, feeds: self._run(session, names, feeds))

    def _run(self, session: Any, names: list[str], feeds: dict[str, np.ndarray]) -> Any:
        self.samples += len(next(iter(feeds.values())))
        return session.run(names, feeds)


def test_the_answers_are_those_that_a_round_asks_for(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=80)
    usual = Config(training=TrainingConfig(epochs=1, views=2, variant="cached"))
    asked = Asked()
    for module in (evaluate, memory):
        monkeypatch.setattr(module, "open_session", asked.open_session)
    with board.store() as store:
        plan = begin_round(board.state, usual, store)
        held_out = len(store.holdout_ids(labelled=True))
    assert trainer.main(["--state-dir", str(board.state.root), "--round", str(plan.number)]) == 0
    budget = Budget(
        samples=len(plan.sample_ids),
        epochs=1,
        batch=plan.batch_size,
        replay=plan.replay_per_batch / plan.batch_size,
        views=2,
        candidates=len(plan.blends),
        classes=len(plan.classes),
        anchor=len(open_set(tiny_set).gate_anchor()[1]),
    )
    assert budget.steps == plan.steps_in_all
    assert asked.samples == budget.answers + (held_out - budget.held_out) * 2 * (1 + budget.candidates)
    made = budget.candidates * (1 + budget.folds)
    assert asked.networks == budget.openings - made


def test_as_many_held_out_samples_as_judge_alone_need_neither_fold_models_nor_views() -> None:
    few, many = (Budget(samples=samples, views=4, candidates=1) for samples in (597, 600))
    assert few.steps > 3.9 * many.steps
    assert (few.answers, many.answers) == ((199 + 597) * 4 * 2 + (320 * 5), 200 * 2 + 320)


def test_the_trainer_takes_its_process_the_mentor_and_the_judging() -> None:
    large = Asking(bytes=600 << 20)
    assert Budget(asking=large).trainer_bytes(100 << 20) == (700 << 20) + JUDGING_BYTES
    assert Budget(memory_bytes=512e6, asking=large).exceeded(100 << 20, Taking(1.0)) == ("memory",)
    assert Budget(memory_bytes=512e6).exceeded(100 << 20, Taking(1.0)) == ()


def test_a_set_is_opened_and_stepped_with_in_a_process_of_its_own(tiny_set: Path) -> None:
    cost = process_cost(tiny_set)
    assert 40 << 20 < cost.bytes < 400 << 20
    assert cost.start_ms > cost.open_ms > cost.answer_ms > 0


def test_a_set_that_no_step_can_be_taken_of_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="No step could be taken of"):
        process_cost(tmp_path)


def test_what_the_mentor_takes_is_at_least_its_weights(tmp_path: Path) -> None:
    mentor = read_network(save(ARCHITECTURES["VGG-16"][0](), tmp_path, "mentor.onnx"), "mentor")
    asking = measure_asking(mentor)
    assert asking.ms > 0
    assert asking.bytes > sum(tensor.ByteSize() for tensor in mentor.model.graph.initializer)
