"""Does a round end with the same bits, whatever happens to it on the way?"""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plans import HandEngine, hand_start, round_data, round_plan

from mmd.errors import TrainingFailed
from mmd.training.engine import TrainingState
from mmd.training.losses import read_losses
from mmd.training.plan import RoundPlan
from mmd.training.round import Listener, RoundEnd, run_round


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs, not even what is meant for exceptions."""


class Ears:
    """Listens to a round, and may kill it or ask it to leave at a step."""

    def __init__(self, *, kill_at: int | None = None, stop_at: int | None = None) -> None:
        self.steps: list[int] = []
        self.notices: list[str] = []
        self._kill_at, self._stop_at = kill_at, stop_at

    def listener(self) -> Listener:
        return Listener(on_step=self._on_step, on_notice=self.notices.append, should_stop=self._should_stop)

    def _on_step(self, step: int, loss: float) -> None:
        self.steps.append(step)
        if step == self._kill_at:
            raise Killed

    def _should_stop(self) -> bool:
        return self._stop_at is not None and bool(self.steps) and self.steps[-1] >= self._stop_at


def attempt(
    folder: Path, ears: Ears, *, engine: HandEngine | None = None, plan: RoundPlan | None = None
) -> tuple[RoundEnd | None, TrainingState]:
    """Run or resume the round in a new engine, as a new process would."""
    engine = engine or HandEngine()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        end = run_round(plan or round_plan(), folder, engine, round_data(), hand_start(), ears.listener())
    except Killed:
        return None, engine.state()
    return end, engine.state()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The final parameters and the loss curve of a round left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    end, state = attempt(folder, Ears())
    assert end is RoundEnd.FINISHED
    return state.parameters["w"].tobytes(), (folder / "losses.jsonl").read_bytes()


def test_a_round_takes_its_steps_and_lowers_the_loss(tmp_path: Path) -> None:
    ears = Ears()
    end, state = attempt(tmp_path, ears)
    assert end is RoundEnd.FINISHED
    assert state.step == 20
    assert ears.steps == list(range(1, 21))
    losses = [line.label for line in read_losses(tmp_path)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@settings(max_examples=40, deadline=None)
@given(kills=st.lists(st.integers(1, 20), max_size=4), stops=st.lists(st.integers(1, 20), max_size=2))
def test_killed_or_stopped_anywhere_it_ends_with_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: tuple[bytes, bytes], kills: list[int], stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    interruptions = [Ears(kill_at=step) for step in kills] + [Ears(stop_at=step) for step in stops]
    random.Random(len(kills)).shuffle(interruptions)
    for ears in interruptions:
        attempt(folder, ears)
    end, state = attempt(folder, Ears())
    assert end is RoundEnd.FINISHED
    assert (state.parameters["w"].tobytes(), (folder / "losses.jsonl").read_bytes()) == undisturbed


def test_asked_to_leave_it_makes_a_checkpoint_and_goes_on_from_there(tmp_path: Path) -> None:
    end, _ = attempt(tmp_path, Ears(stop_at=7))
    assert end is RoundEnd.STOPPED
    ears = Ears()
    attempt(tmp_path, ears)
    assert ears.steps == list(range(8, 21))


def test_killed_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    attempt(tmp_path, Ears(kill_at=13))
    ears = Ears()
    attempt(tmp_path, ears)
    assert ears.steps[0] == 11


def test_a_damaged_checkpoint_costs_steps_and_nothing_else(tmp_path: Path, undisturbed: tuple[bytes, bytes]) -> None:
    attempt(tmp_path, Ears(kill_at=13))
    (tmp_path / "checkpoints" / "step-00000010.safetensors").write_bytes(b"broken")
    ears = Ears()
    _, state = attempt(tmp_path, ears)
    assert ears.steps[0] == 6
    assert "Resuming from step 5." in ears.notices
    assert (state.parameters["w"].tobytes(), (tmp_path / "losses.jsonl").read_bytes()) == undisturbed


def test_a_finished_round_that_is_run_again_takes_no_step(tmp_path: Path, undisturbed: tuple[bytes, bytes]) -> None:
    attempt(tmp_path, Ears())
    ears = Ears()
    end, state = attempt(tmp_path, ears)
    assert end is RoundEnd.FINISHED
    assert ears.steps == []
    assert state.parameters["w"].tobytes() == undisturbed[0]


def exploding(step: int, times: int) -> Callable[[], HandEngine]:
    def make() -> HandEngine:
        engine = HandEngine()
        engine.is_exploding_at = {step: times}
        return engine

    return make


def test_a_loss_that_is_not_finite_goes_back_with_a_tenth_of_the_learning_rate(tmp_path: Path) -> None:
    engine, ears = exploding(12, 1)(), Ears()
    end, state = attempt(tmp_path, ears, engine=engine)
    assert end is RoundEnd.FINISHED
    assert state.step == 20
    first, second = (rate for step, rate in engine.rates if step == 11)
    assert second == pytest.approx(first / 10)
    assert ears.notices == [
        "The loss or a parameter was not finite at step 12; back at step 10 with a tenth of the learning rate "
        "(1 of 3 tries)."
    ]
    assert [line.step for line in read_losses(tmp_path)] == list(range(1, 21))


def test_a_parameter_that_is_not_finite_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    engine = HandEngine()
    engine.poisoned_at = {9}
    end, state = attempt(tmp_path, Ears(), engine=engine)
    assert end is RoundEnd.FINISHED
    assert np.isfinite(state.parameters["w"]).all()


def test_before_the_first_checkpoint_it_goes_back_to_the_start(tmp_path: Path) -> None:
    ears = Ears()
    end, _ = attempt(tmp_path, ears, engine=exploding(2, 1)())
    assert end is RoundEnd.FINISHED
    assert "back at step 0" in ears.notices[0]


def test_after_three_tries_it_gives_up_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"Round 1 .* 4 times.*training\.learning_rate"):
        attempt(tmp_path, Ears(), engine=exploding(12, 4)())


@pytest.mark.parametrize(("kill_at", "stop_at"), [(11, None), (14, None), (17, None), (None, 11), (None, 13)])
def test_a_recovery_gives_the_same_bits_when_it_is_interrupted(
    tmp_path: Path, kill_at: int | None, stop_at: int | None
) -> None:
    # The loss of step 12 explodes as long as the learning rate is high, whoever takes the step.
    class Fragile(HandEngine):
        def step(self, batch, weights, learning_rate):  # type: ignore[no-untyped-def]
            self.is_exploding_at = {12: 1} if learning_rate > 0.01 else {}
            return super().step(batch, weights, learning_rate)

    _, expected = attempt(tmp_path / "alone", Ears(), engine=Fragile())
    attempt(tmp_path / "disturbed", Ears(kill_at=kill_at, stop_at=stop_at), engine=Fragile())
    end, state = attempt(tmp_path / "disturbed", Ears(), engine=Fragile())
    assert end is RoundEnd.FINISHED
    assert state.parameters["w"].tobytes() == expected.parameters["w"].tobytes()
    curves = [(tmp_path / name / "losses.jsonl").read_bytes() for name in ("alone", "disturbed")]
    assert curves[0] == curves[1]
