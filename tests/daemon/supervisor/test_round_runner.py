"""Does the runner keep its patience by the right clock, and its trainer when there is time enough?"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.fakes.running import Rig, is_alive, rig
from tests.fakes.trainer import fake_trainer_command
from tests.support import eventually

from mmd.conditions import Instant
from mmd.config import load_config
from mmd.layout import round_folder
from mmd.policy import Code, Reason
from mmd.promotion import turns
from mmd.promotion.outcome import RoundOutcome, read_outcome
from mmd.supervisor.retries import PUT_OFF_SECONDS, RETRY_SECONDS
from mmd.supervisor.round_runner import LEAVE_SECONDS, RoundRunner
from mmd.supervisor.states import State

UNPLUGGED = [Reason(Code.ON_BATTERY, "The board runs on battery.", 0.0, "external power is connected")]
NIGHT = 8 * 3600.0


class Rounds:
    def begin_round(self, number: int, now: Instant) -> None: ...
    def end_round(self, outcome: RoundOutcome) -> None: ...
    def event(self, name: str, detail: str, now: Instant) -> None: ...


class Runner:
    """A runner whose clock a test moves."""

    def __init__(self, board: Rig) -> None:
        self.now = Instant(1e9, 1000.0)
        self.config = load_config(board.config)
        self.runner = RoundRunner(
            board.state, Rounds(), now=self.now, command=lambda state, number: fake_trainer_command(state.root, number)
        )

    def look(self, reasons: list[Reason]) -> State:
        self.runner.look(reasons, self.config, self.now)
        return self.runner.state

    def wait(self, seconds: float, *, asleep: bool = False) -> None:
        now = self.now
        slept = now.asleep + (seconds if asleep else 0.0)
        self.now = msgspec.structs.replace(
            now, wall=now.wall + seconds, monotonic=now.monotonic + seconds, asleep=slept
        )

    def start(self) -> int:
        """Let a trainer take steps; return its process number."""
        assert self.look([]) is State.TRAINING

        def steps() -> bool:
            self.runner.read_output(self.now)
            return self.runner.progress is not None and self.runner.progress.step > 0

        eventually(steps)
        assert self.runner.trainer is not None
        return self.runner.trainer.pid


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def test_a_trainer_that_was_asked_to_leave_keeps_its_time_when_the_machine_sleeps(board: Rig) -> None:
    board.script("steps=100000 stubborn")
    made = Runner(board)
    pid = made.start()
    assert made.look(UNPLUGGED) is State.SUSPENDED
    made.wait(made.config.daemon.suspend_grace_seconds)
    made.look(UNPLUGGED)  # asked to leave
    made.wait(NIGHT, asleep=True)
    made.look(UNPLUGGED)
    assert is_alive(pid)
    made.wait(LEAVE_SECONDS)
    made.look(UNPLUGGED)
    eventually(lambda: not is_alive(pid))
    made.look(UNPLUGGED)
    assert made.runner.trainer is None


def test_a_suspended_trainer_goes_on_after_a_night_if_it_may_at_once(board: Rig) -> None:
    board.script("steps=100000")
    made = Runner(board)
    pid = made.start()
    made.look(UNPLUGGED)
    made.wait(NIGHT, asleep=True)
    assert made.look([]) is State.TRAINING
    assert is_alive(pid)
    made.runner.stop(lambda: made.now)


def test_a_suspended_trainer_leaves_after_a_night_if_it_may_not(board: Rig) -> None:
    board.script("steps=100000")
    made = Runner(board)
    pid = made.start()
    made.look(UNPLUGGED)
    made.wait(NIGHT, asleep=True)
    assert made.look(UNPLUGGED) is State.SUSPENDED
    eventually(lambda: not is_alive(pid))
    made.look(UNPLUGGED)


def judge_while_others_change_the_models(made: Runner) -> None:
    """Let the round come to its verdict, and the runner find somebody else at the models."""
    assert made.look([]) is State.TRAINING

    def is_judged() -> bool:
        made.look([])
        return made.runner.trainer is None

    eventually(is_judged)


def test_a_verdict_waits_until_nobody_else_changes_the_models(
    board: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.0)
    board.script("steps=3")
    made = Runner(board)
    with turns.turn(board.state):
        judge_while_others_change_the_models(made)
        for _ in range(2 * len(RETRY_SECONDS)):
            assert (made.runner.state, made.runner.is_put_off) == (State.SUSPENDED, True)
            assert (made.runner.retry_at or 0) > made.now.monotonic
            made.wait(PUT_OFF_SECONDS)
            made.look([])
    assert read_outcome(round_folder(board.state, 1)) is None
    made.wait(PUT_OFF_SECONDS)
    assert made.look([]) is State.IDLE
    outcome = read_outcome(round_folder(board.state, 1))
    assert outcome is not None
    assert outcome.outcome == "rejected"
    assert not made.runner.is_put_off
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "round=1 is judged; its verdict waits: another command is changing the models"
    ]


def test_the_next_daemon_carries_out_a_verdict_that_had_to_wait(board: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.0)
    board.script("steps=3")
    with turns.turn(board.state):
        judge_while_others_change_the_models(Runner(board))
        made = Runner(board)
        assert (made.runner.state, made.runner.is_put_off) == (State.SUSPENDED, True)
        assert made.runner.progress is not None, "the round is open"
    made.wait(PUT_OFF_SECONDS)
    assert made.look([]) is State.IDLE
    assert read_outcome(round_folder(board.state, 1)) is not None
