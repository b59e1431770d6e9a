"""Does `mmd why` say what is in the way, since when, and what would clear it?"""

import json
import os
import time
from pathlib import Path

import pytest
from tests.fakes.running import rig, wait_for_trainer
from tests.support import call_mmd, eventually, write_json

from mmd.cli.answers import ago
from mmd.supervisor.control import ask
from mmd.supervisor.history import History
from mmd.supervisor.lock import DaemonLock


def test_a_suspension_says_what_would_clear_it(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        board.board.unplug()
        eventually(lambda: board.is_in("suspended"))
        lines = call_mmd("why", state=board.state.root, config=board.config).out.splitlines()
        assert lines[0] == "Training does not run (state: suspended), for these reasons:"
        assert lines[1].startswith("- The board runs on battery: battery is discharging. [on_battery, since ")
        assert lines[2] == "  It clears when external power is connected."


def test_while_training_all_conditions_hold(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        ran = call_mmd("why", state=board.state.root, config=board.config)
        assert ran.out == "The daemon is training: all conditions hold.\n"


def test_a_forced_round_names_what_it_ignores(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.board.unplug()
        board.start()
        ask(board.state.control_socket, {"request": "train", "force": True})
        wait_for_trainer(board)
        lines = call_mmd("why", state=board.state.root, config=board.config).out.splitlines()
        assert lines[0] == "The daemon is training."
        assert lines[1] == "You forced this round: conditions are not obeyed."
        assert lines[2] == "- ignored: The board runs on battery: battery is discharging. [on_battery]"


def test_without_a_daemon_that_is_the_first_reason(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        lines = call_mmd("why", state=board.state.root, config=board.config).out.splitlines()
        assert lines[0] == "Training does not run (state: waiting), for these reasons:"
        assert lines[1].startswith("- No daemon is running. [no_daemon, since ")
        assert lines[2:] == ["  It clears when you start `mmd run`."]
        board.board.unplug()
        ran = call_mmd("why", "--json", state=board.state.root, config=board.config)
        answer = json.loads(ran.out)
        assert answer["daemon"] is False
        assert [reason["code"] for reason in answer["reasons"]] == ["no_daemon", "on_battery"]
        status = json.loads(call_mmd("status", "--json", state=board.state.root, config=board.config).out)
        assert [status[key] for key in ("state", "mode")] == [answer[key] for key in ("state", "mode")]
        assert [reason["code"] for reason in status["reasons"]] == ["no_daemon", "on_battery"]


def test_without_a_daemon_a_command_that_trains_is_named(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        with DaemonLock(board.state.lock_file):
            busy = call_mmd("why", state=board.state.root, config=board.config).out
        told = f"- No daemon is running, but process {os.getpid()} is at work: `mmd train`, say. [no_daemon, since "
        assert told in busy
        board.state.lock_file.write_text(f"{os.getpid()}\n")  # as one that was killed leaves it
        assert "- No daemon is running. [" in call_mmd("why", state=board.state.root, config=board.config).out


def test_without_a_daemon_the_rest_after_a_round_counts_as_it_will_once_one_runs(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        (board.state.rounds / "0001").mkdir(parents=True)
        outcome = {"round": 1, "outcome": "rejected", "reason": "No.", "finished": time.time(), "generation": None}
        write_json(board.state.rounds / "0001" / "done.json", outcome)
        reasons = json.loads(call_mmd("why", "--json", state=board.state.root, config=board.config).out)["reasons"]
        assert "cooldown" in [reason["code"] for reason in reasons]
        board.start()
        assert "cooldown" in board.codes()


def test_no_daemon_runs_since_the_last_one_ended(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        write_day(board.state.root)
        answer = json.loads(call_mmd("why", "--json", state=board.state.root, config=board.config).out)
        assert round(time.time() - answer["reasons"][0]["since"], -2) == 3600


def test_how_long_ago_is_said_in_the_unit_of_the_time() -> None:
    spans = {0.0: "0 s", 90.0: "90 s", 600.0: "10 min", 9000.0: "2.5 h", 86400.0 * 4: "4 days", -5.0: "0 s"}
    assert [ago(1000.0 - seconds, now=1000.0) for seconds in spans] == list(spans.values())


def write_day(state: Path) -> None:
    """A day that ended an hour ago: 12 h in use, 6 h on battery while in use, 6 h possible."""
    hour, now = 3600.0, time.time()
    with History(state / "history.db") as history:
        for ago_hours, name, reasons in [
            (25, "waiting", ["user_active"]),
            (13, "waiting", ["on_battery", "user_active"]),
            (7, "training", []),
            (1, "stopped", []),
        ]:
            history.add_state(now - ago_hours * hour, name, reasons, round_number=None, step=None)


def test_looking_back_says_what_held_and_what_cost_most(tmp_path: Path) -> None:
    write_day(tmp_path)
    lines = call_mmd("why", "--since", "24h", state=tmp_path).out.splitlines()
    assert lines[0] == "In the last 24 h mmd ran for 23.0 h."
    assert lines[1] == "Training was possible for 6.0 h of that (26%), and ran for 6.0 h."
    assert lines[2] == "user_active cost most: it alone kept training back for 11.0 h."
    assert [line.split()[:6] for line in lines[4:]] == [
        ["user_active", "17.0", "h", "74%", "1", "11.0"],
        ["on_battery", "6.0", "h", "26%", "1", "0"],
    ]
    assert lines[4].endswith("█" * 34 + "·" * 14)


def test_looking_back_as_json_has_the_whole_timeline(tmp_path: Path) -> None:
    write_day(tmp_path)
    found = json.loads(call_mmd("why", "--since", "1d", "--json", state=tmp_path).out)
    assert found["costliest"] == "user_active"
    assert round(found["possible_fraction"], 3) == round(6 / 23, 3)
    assert [stretch["state"] for stretch in found["timeline"]] == ["waiting", "waiting", "training", "stopped"]
    assert [total["code"] for total in found["reasons"]] == ["user_active", "on_battery"]


def test_a_time_in_which_no_daemon_ran_has_nothing_to_tell(tmp_path: Path) -> None:
    write_day(tmp_path)
    ran = call_mmd("why", "--since", "30m", state=tmp_path)
    assert ran.out == "In the last 30 min mmd ran for 0 s.\n"
    assert json.loads(call_mmd("why", "--since", "30m", "--json", state=tmp_path).out)["possible_fraction"] is None


@pytest.mark.parametrize("period", ["24", "h", "-3h", "0h", "1.5h", "yesterday", ""])
def test_a_period_that_is_none_is_refused(tmp_path: Path, period: str) -> None:
    ran = call_mmd("why", "--since", period, state=tmp_path)
    assert ran.code == 2
    assert "write a number and s, m, h or d: 24h." in ran.err


def test_without_a_history_looking_back_says_who_writes_it(tmp_path: Path) -> None:
    ran = call_mmd("why", "--since", "24h", state=tmp_path)
    assert ran.code == 2
    assert "`mmd run` writes it" in ran.err


def test_a_running_daemon_is_counted_up_to_now(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        ran = call_mmd("why", "--since", "1h", "--json", state=board.state.root, config=board.config)
        assert json.loads(ran.out)["timeline"][-1]["state"] == "training"
