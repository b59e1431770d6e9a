"""Does `mmd status` say everything, with a daemon and without one?"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.running import Rig, rig, wait_for_trainer
from tests.support import call_mmd, eventually, run_mmd, write_json

from mmd.limits import ConditionsConfig

KEYS = [
    "state",
    "mode",
    "reasons",
    "conditions",
    "samples",
    "round",
    "usage",
    "model",
    "verdict",
    "memory",
    "engine",
    "daemon",
]


def status(board: Rig) -> dict[str, Any]:
    ran = call_mmd("status", "--json", state=board.state.root, config=board.config)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_without_a_daemon_the_store_is_shown_and_said_so(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        found = status(board)
        assert list(found) == KEYS
        assert found["daemon"] is None
        assert found["state"] == "waiting"
        assert found["samples"]["total"] == 50
        assert found["model"]["generation"] == 0
        assert found["round"] is None
        assert list(found["conditions"]) == list(ConditionsConfig.__struct_fields__)
        ran = call_mmd("status", state=board.state.root, config=board.config)
        assert ran.code == 0
        assert "no_daemon No daemon is running. (since " in ran.out
        assert "samples 50: 50 labelled" in ran.out


def test_the_text_shows_what_can_keep_training_back_here_and_all_of_it_on_request(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.board.without("battery").zone(0, "garbage")
        text = call_mmd("status", state=board.state.root, config=board.config).out
        everything = call_mmd("status", "--all", state=board.state.root, config=board.config).out
        names = [name for name in ConditionsConfig.__struct_fields__ if f" {name} " in text]
    assert {"external_power", "soc_temperature", "memory_available", "disk_free"} <= set(names)
    assert not {"battery_charge", "run_length", "allowed_hours", "training_energy_today"} & set(names)
    hidden = len(ConditionsConfig.__struct_fields__) - len(names)
    assert f"{hidden} more have no limit, or no sensor on this board; `mmd status --all` shows them." in text
    assert [name for name in ConditionsConfig.__struct_fields__ if f" {name} " not in everything] == []
    assert "--all" not in everything
    assert "MiB of cache" in text


def test_a_state_folder_that_does_not_exist_is_described_too(tmp_path: Path) -> None:
    ran = call_mmd("status", "--json", state=tmp_path / "nothing")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert [reason["code"] for reason in found["reasons"] if reason["code"] == "no_artifact_set"]
    assert found["model"] is None
    assert not (tmp_path / "nothing").exists()
    assert "none; run `mmd init`" in call_mmd("status", state=tmp_path / "nothing").out


def test_with_a_daemon_the_round_and_the_process_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        found = status(board)
        assert list(found) == KEYS
        assert found["state"] == "training"
        assert list(found["round"]) == ["number", "step", "steps", "loss", "minutes", "watt_hours"]
        assert board.process is not None
        assert found["daemon"]["pid"] == board.process.pid
        board.board.unplug().zone(1, "garbage")
        eventually(lambda: board.is_in("suspended"))
        text = call_mmd("status", state=board.state.root, config=board.config).out
        assert text.startswith("suspended\n")
        assert "on_battery The board runs on battery: battery is discharging." in text
        assert "thermal_zone1/temp holds no number" in text


def test_an_open_round_without_a_daemon_is_suspended(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        assert board.stop() == 0
        found = status(board)
        assert found["state"] == "suspended"
        assert found["round"]["number"] == 1


def test_a_damaged_card_is_shown_as_damaged(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        (board.state.models / "current" / "card.json").write_text("{")
        assert status(board)["model"] == {"generation": 0, "sha256": None, "phase": "damaged", "review": None}


def test_a_damaged_verdict_and_plan_do_not_keep_status_from_answering(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        for number in ("0001", "0002"):
            (board.state.rounds / number).mkdir(parents=True)
        (board.state.rounds / "0001" / "verdict.json").write_text("{")
        outcome = {"round": 1, "outcome": "rejected", "reason": "No.", "finished": 1.0, "generation": None}
        write_json(board.state.rounds / "0001" / "done.json", outcome)
        (board.state.rounds / "0002" / "plan.json").write_text("{")
        found = status(board)
        assert found["verdict"] is None
        assert found["state"] == "suspended"


def test_a_wrong_configuration_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "mmd.toml"
    config.write_text("[daemon]\npol_seconds = 1\n")
    ran = call_mmd("status", state=tmp_path, config=config)
    assert ran.code == 2
    assert "did you mean `daemon.poll_seconds`?" in ran.err


@pytest.mark.parametrize("command", ["status", "why", "run", "pause", "resume"])
def test_the_light_commands_import_nothing_heavy(command: str) -> None:
    code = f"""
import sys
import mmd.cli.{command}, mmd.cli.main, mmd.supervisor.offline, mmd.supervisor.control, mmd.supervisor.daemon
heavy = {{"numpy", "onnxruntime", "onnx", "PIL", "watchdog", "rich", "psutil", "safetensors"}} & set(sys.modules)
sys.exit(f"imported: {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", [["--json"], []])
def test_status_imports_nothing_heavy_while_it_answers(tmp_path: Path, form: list[str]) -> None:
    with rig(tmp_path) as board:
        code = f"""
import atexit, sys
heavy = {{"numpy", "onnxruntime", "onnx", "PIL", "watchdog", "rich", "psutil", "safetensors"}}
atexit.register(lambda: sys.stderr.write(",".join(sorted(heavy & set(sys.modules)))))
sys.argv = {["mmd", "status", *form]}
from mmd.cli.main import main
main()
"""
        environment = {"MMD_STATE_DIR": str(board.state.root), "MMD_CONFIG": str(board.config)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0
        assert done.stderr == ""
        told = str(msgspec.json.decode(done.stdout)["samples"]["total"]) if form else done.stdout
        assert "50" in told


IMPORTED = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(f"{len(sys.modules)} {sum(name.startswith('mmd') for name in sys.modules)}"))
sys.argv = ["mmd", *sys.argv[1:]]
from mmd.cli.main import main
main()
"""
MOST_MODULES = {"asked": 145, "alone": 210}
"""How many modules `mmd status --json` may import, the interpreter's own included: on 3.11 and 3.13 128 and 201."""
MOST_TIMES_THE_LEAST = 2.0
"""What the interpreter, click and JSON cost by themselves, and how many times that an answer may: 1.05 was seen."""
MOST_TIMES_THE_LEAST_ALONE = 3.0
"""The same for an answer that is worked out here: 1.4 to 2.1 was seen."""


def test_a_status_that_the_daemon_gives_needs_few_modules_and_no_configuration(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.start()
        command = [sys.executable, "-c", IMPORTED, "--state-dir", str(board.state.root), "status", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        every, own = map(int, done.stderr.split())
        assert every <= MOST_MODULES["asked"]
        assert own <= 12, "the answer comes from the daemon: neither msgspec nor the views are needed"


def test_a_status_without_a_daemon_stays_within_its_import_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORTED, "--state-dir", str(tmp_path), "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stderr.split()[0]) <= MOST_MODULES["alone"]


def cpu_seconds(*command: str) -> float:
    """Return the least processor time of a few runs; other work on the machine is none of it."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return min(once() for _ in range(6))


def test_status_costs_little_more_than_an_interpreter_with_click(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.start()
        least = cpu_seconds("-c", "import click, json, socket")
        answer = cpu_seconds("-m", "mmd", "--state-dir", str(board.state.root), "status", "--json")
        assert answer <= MOST_TIMES_THE_LEAST * least


def test_status_without_a_daemon_costs_a_few_times_an_interpreter_with_click(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        least = cpu_seconds("-c", "import click, json, socket")
        answer = cpu_seconds("-m", "mmd", "--state-dir", str(board.state.root), "status", "--json")
        assert answer <= MOST_TIMES_THE_LEAST_ALONE * least


def test_a_reader_that_hangs_up_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mmd status --json --state-dir {tmp_path} | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_status_in_a_process_of_its_own_answers(tmp_path: Path) -> None:
    assert run_mmd("status", "--json", state=tmp_path / "nothing").code == 0
