"""Does a wall clock that jumps, as the first time from the network makes it, neither start nor stop anything?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.running import Rig, is_alive, rig, wait_for_trainer
from tests.support import call_mmd, eventually

DAY = 86400.0
JUMPS = (3 * DAY, -30 * DAY, 0.0)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        made.script("steps=100000")
        made.start()
        yield made


def step(board: Rig) -> int:
    found: int = board.status()["round"]["step"]
    return found


def test_training_goes_on_and_its_account_stays_true(board: Rig) -> None:
    trainer = wait_for_trainer(board)
    for jump in JUMPS:
        board.set_clock(jump)
        before = step(board)
        eventually(lambda before=before: step(board) > before)
        assert board.is_in("training")
        assert board.trainer_pid == trainer.pid
        assert board.status()["usage"]["minutes_today"] < 5
    ran = call_mmd("why", "--since", "24h", "--json", state=board.state.root, config=board.config)
    told = json.loads(ran.out)
    assert 0 <= told["training_seconds"] <= told["observed_seconds"] <= DAY
    assert 0 <= told["possible_fraction"] <= 1


def test_what_is_suspended_waits_on_with_the_same_reason_and_goes_on_in_place(board: Rig) -> None:
    trainer = wait_for_trainer(board)
    board.board.unplug()
    eventually(lambda: board.is_in("suspended"))
    for jump in JUMPS:
        shown = board.set_clock(jump)
        (reason,) = board.status()["reasons"]
        assert reason["code"] == "on_battery"
        assert shown - 60 < reason["since"] < shown + 60
        assert board.is_in("suspended")
        assert is_alive(trainer.pid), "the grace before it leaves is not over"
    board.board.plug()
    eventually(lambda: board.is_in("training"))
    assert board.trainer_pid == trainer.pid
