"""Does `mmd why` say what is in the way, since when, and what would clear it?"""

import json
from pathlib import Path

from tests.fakes.running import rig, wait_for_trainer
from tests.support import call_mmd, eventually

from mmd.cli.answers import ago
from mmd.supervisor.control import ask


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
        lines = call_mmd("why", state=board.state.root, config=board.config).out.splitlines()
        assert lines[1] == "You forced this round: conditions are not obeyed."
        assert lines[2] == "- ignored: The board runs on battery: battery is discharging. [on_battery]"


def test_without_a_daemon_that_is_the_first_reason(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        lines = call_mmd("why", state=board.state.root, config=board.config).out.splitlines()
        assert lines == [
            "No daemon is running: nothing trains until `mmd run` is started.",
            "All conditions hold; it would train at once.",
        ]
        board.board.unplug()
        ran = call_mmd("why", "--json", state=board.state.root, config=board.config)
        answer = json.loads(ran.out)
        assert answer["daemon"] is False
        assert [reason["code"] for reason in answer["reasons"]] == ["on_battery"]
        assert "it would wait as well" in call_mmd("why", state=board.state.root, config=board.config).out


def test_how_long_ago_is_said_in_the_unit_of_the_time() -> None:
    spans = {0.0: "0 s", 90.0: "90 s", 600.0: "10 min", 9000.0: "2.5 h", 86400.0 * 4: "4 days", -5.0: "0 s"}
    assert [ago(1000.0 - seconds, now=1000.0) for seconds in spans] == list(spans.values())
