"""Does `mmd doctor` find what is wrong, name it, and say what to do?"""

import contextlib
import importlib.metadata
import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.board import Board
from tests.fakes.running import Rig, rig
from tests.plans import round_plan
from tests.support import call_mmd

from mmd.config import load_config
from mmd.errors import MmdError
from mmd.sockets import bind_unix
from mmd.supervisor.doctor import CHECKS
from mmd.supervisor.memory import learn
from mmd.supervisor.service import CARRIED, PLACES

UNIT = PLACES["mmd.service"]
IN_THE_STATE_FOLDER = {
    "initialised",
    "permissions",
    "artifact set",
    "sample store",
    "models",
    "history",
    "daemon",
    "server",
    "trainer memory",
}


def findings(board: Rig) -> dict[str, dict[str, Any]]:
    """Return what the doctor finds, by code."""
    ran = call_mmd("doctor", "--json", state=board.state.root, config=board.config)
    assert ran.out, ran.err
    answer = json.loads(ran.out)
    found = {finding["code"]: finding for finding in answer["findings"]}
    assert (
        ran.code == int(any(finding["severity"] == "problem" for finding in found.values())) == (not answer["healthy"])
    )
    assert all(finding["message"].endswith((".", "?")) and finding["remedy"] for finding in found.values())
    return found


def with_systemd(board: Board) -> Board:
    """A board with systemd and the service as it is shipped, and the program that it starts."""
    board.write("run/systemd/system/.keep", "")
    board.write(UNIT, (CARRIED / "mmd.service").read_text())
    return board.write("opt/mmd/bin/mmd", "#!/bin/sh")


def break_capacity(board: Rig) -> None:
    board.board.write("sys/class/power_supply/battery/capacity", "many")


def forget_battery(board: Rig) -> None:
    board.board.without("battery")


def be_headless(board: Rig) -> None:
    board.board.remove("dev/tty1").remove("proc/interrupts")


def fill_disk(board: Rig) -> None:
    section, wanted = "[conditions.disk_free]\n", "start_mib = 1e12\n"
    before, _, after = board.config.read_text().partition(section)
    rest = "".join(line for line in after.splitlines(keepends=True) if not line.startswith("start_mib"))
    board.config.write_text(before + section + wanted + rest)


def fill_memory(board: Rig) -> None:
    board.board.memory(available_mib=20)


def open_to_all(board: Rig) -> None:
    board.state.root.chmod(0o755)


def damage_set(board: Rig) -> None:
    (board.state.artifact_set / "mentor.onnx").write_bytes(b"x")


def damage_store(board: Rig) -> None:
    board.state.samples_db.write_bytes(b"no database" * 1000)


def damage_model(board: Rig) -> None:
    other = board.state.models / "gen-0001"
    other.mkdir()
    (other / "card.json").write_text("{")


def lose_models(board: Rig) -> None:
    (board.state.models / "gen-0000" / "mentee.onnx").write_bytes(b"x")


def damage_history(board: Rig) -> None:
    board.state.history_db.write_bytes(b"no database" * 1000)


def misspell(board: Rig) -> None:
    board.configure(more="[training]\nepoch = 3\n")


def lose_set(board: Rig) -> None:
    (board.state.artifact_set / "manifest.json").unlink()


def set_clock_back(board: Rig) -> None:
    tomorrow = time.time() + 3 * 86400
    os.utime(board.state.samples_db, (tomorrow, tomorrow))


def hold_for_long(board: Rig) -> None:
    board.state.hold_file.touch()
    os.utime(board.state.hold_file, (0, time.time() - 3 * 86400))


def kill_server(board: Rig) -> None:
    bind_unix(board.state.serve_socket).close()


def have_systemd_only(board: Rig) -> None:
    board.board.write("run/systemd/system/.keep", "")


def weaken(board: Rig) -> None:
    with_systemd(board.board).write(f"{UNIT}.d/own.conf", "[Service]\nProtectSystem=no\nNice=3")


def soften(board: Rig) -> None:
    text = (CARRIED / "mmd.service").read_text().replace("PrivateNetwork=yes\n", "")
    with_systemd(board.board).write(UNIT, text)


def widen(board: Rig) -> None:
    with_systemd(board.board).write(f"{UNIT}.d/own.conf", "[Service]\nReadWritePaths=/srv")


def run_out_of_memory(board: Rig) -> None:
    for _ in range(3):
        learn(board.state, load_config(board.config), round_plan(batch_size=8))


def lose_program(board: Rig) -> None:
    with_systemd(board.board).remove("opt/mmd/bin/mmd")


CASES: list[tuple[str, str, Callable[[Rig], None]]] = [
    ("configuration_refused", "unknown key `training.epoch`", misspell),
    ("not_initialised", "no artifact set", lose_set),
    ("state_open_to_all", "Everybody on this machine", open_to_all),
    ("set_damaged", "mentor.onnx", damage_set),
    ("store_damaged", "samples.db", damage_store),
    ("model_damaged", "gen-0001", damage_model),
    ("no_model", "mentee.onnx", lose_models),
    ("history_damaged", "history.db", damage_history),
    ("service_not_installed", "does not start with the board", have_systemd_only),
    ("service_not_hardened", "ProtectSystem", weaken),
    ("service_not_hardened", "PrivateNetwork", soften),
    ("service_not_hardened", "ReadWritePaths", widen),
    ("service_program_missing", "/opt/mmd/bin/mmd", lose_program),
    ("held_for_long", "3 days", hold_for_long),
    ("server_gone", "serve.sock", kill_server),
    ("battery_unreadable", "cannot be read", break_capacity),
    ("no_battery", "No battery is seen", forget_battery),
    ("no_idle_source", "counts as idle", be_headless),
    ("sensor_not_believed", "capacity", break_capacity),
    ("memory_low", "20 MiB", fill_memory),
    ("trainer_out_of_memory", "no more than 4 samples at once", run_out_of_memory),
    ("disk_low", "are free", fill_disk),
    ("clock_in_the_past", "3 days", set_clock_back),
]


@pytest.mark.parametrize(("code", "word", "spoil"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_named_with_what_to_do(
    tmp_path: Path, code: str, word: str, spoil: Callable[[Rig], None]
) -> None:
    with rig(tmp_path) as board:
        before = findings(board)
        assert code not in before
        spoil(board)
        found = findings(board)
        assert code in found, sorted(found)
        assert word in found[code]["message"]


def test_a_board_that_is_well_is_told_so(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        with_systemd(board.board)
        board.start()
        assert findings(board) == {}
        ran = call_mmd("doctor", state=board.state.root, config=board.config)
        assert ran.code == 0
        assert ran.out.endswith("No problem found.\n")
        assert all(name in ran.out for name in CHECKS)


def test_problems_are_shown_with_their_remedy_and_counted(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        open_to_all(board)
        lines = call_mmd("doctor", state=board.state.root, config=board.config).out.splitlines()
        place = next(number for number, line in enumerate(lines) if "[state_open_to_all]" in line)
        assert lines[place].startswith("problem: ")
        assert lines[place + 1] == f"  Run `chmod o= {board.state.root}`."
        assert lines[-1] == "1 problem found."


def test_without_a_daemon_or_systemd_there_are_only_notes(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        assert {code: finding["severity"] for code, finding in findings(board).items()} == {
            "no_systemd": "note",
            "no_daemon": "note",
        }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_named(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        os.chown(board.state.samples_db, 65534, -1)
        assert "samples.db" in findings(board)["foreign_files"]["message"]


@contextmanager
def somebody_else(folder: Path, hidden: Path) -> Iterator[None]:
    """Be somebody who may go through `folder` and not look at `hidden`: modes do not hold root back.

    What is imported by now need not be read as somebody who may not.
    """
    before, others, mode = os.geteuid(), 65534, stat.S_IMODE(hidden.stat().st_mode)
    for above in (folder, *folder.parents):
        above.chmod(above.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
        if above.name.startswith("pytest-of-"):
            break
    hidden.chmod(0 if before else 0o700)
    os.setresuid(before or others, before or others, before)
    try:
        yield
    finally:
        os.setresuid(before, before, before)
        hidden.chmod(mode)


def test_somebody_else_is_told_whose_folder_it_is_and_what_could_not_be_looked_at(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        root = board.state.root
        assert "not_your_folder" not in findings(board)
        with somebody_else(tmp_path, root):
            found = findings(board)
            ran = call_mmd("doctor", state=root, config=board.config)
        assert {finding["severity"] for finding in found.values()} == {"note"}
        if not os.geteuid():
            assert found["not_your_folder"]["remedy"].startswith("Run `sudo -u root mmd doctor`")
        *_, fine, unseen, last = ran.out.splitlines()
        hidden = [name for name in CHECKS if name in IN_THE_STATE_FOLDER]
        assert unseen == f"Could not look at: {', '.join(hidden)} (this user may not look into {root})."
        assert not set(hidden) & set(fine.removeprefix("Fine: ").removesuffix(".").split(", "))
        assert (ran.code, last) == (0, "No problem found in what could be looked at.")


@pytest.mark.parametrize(
    ("hidden", "checks"),
    [
        (".", IN_THE_STATE_FOLDER),
        ("set", {"initialised", "artifact set", "sample store", "models"}),
        ("set/mentor.onnx", {"artifact set"}),
        ("samples.db", {"sample store"}),
        ("models/gen-0000/mentee.onnx", {"models"}),
        ("history.db", {"history"}),
        ("control.sock", {"daemon"}),
        ("../mmd.service", {"service"}),
    ],
)
def test_a_check_that_may_not_look_names_what_is_hidden_and_finds_nothing(
    tmp_path: Path, hidden: str, checks: set[str]
) -> None:
    with rig(tmp_path) as board:
        unit = with_systemd(board.board).root / UNIT
        board.start()
        path = unit if hidden == "../mmd.service" else board.state.root / hidden
        with somebody_else(tmp_path, path):
            found = json.loads(call_mmd("doctor", "--json", state=board.state.root, config=board.config).out)
        assert set(found["not_made"]) == checks
        assert all(str(path) in why for why in found["not_made"].values())
        assert {finding["code"] for finding in found["findings"]} <= {"not_your_folder"}


def test_what_lies_in_somebody_elses_folder_is_not_said_to_be_missing(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.touch()
    with rig(tmp_path / "theirs") as board, somebody_else(tmp_path, tmp_path / "theirs"):
        ran = call_mmd("doctor", "--json", state=board.state.root, config=own)
        assert ran.code == 0, ran.err
        assert "initialised" in json.loads(ran.out)["not_made"]


def test_a_busy_sample_store_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmd.samples.database.BUSY_SECONDS", 0.0)
    with rig(tmp_path) as board, contextlib.closing(sqlite3.connect(board.state.samples_db)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        found = json.loads(call_mmd("doctor", "--json", state=board.state.root, config=board.config).out)
        assert "is busy with another command; try again" in found["not_made"]["sample store"]
        assert found["healthy"]


def test_a_history_for_which_a_full_disk_has_no_room_is_neither_damaged_nor_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path) -> None:
        raise MmdError(f"No space left for the history {path}; free some and try again.")

    monkeypatch.setattr("mmd.supervisor.doctor.state.open_history", no_room)
    with rig(tmp_path) as board:
        board.state.history_db.touch()
        found = json.loads(call_mmd("doctor", "--json", state=board.state.root, config=board.config).out)
    assert found["not_made"]["history"].endswith("free some and try again")
    assert found["healthy"]


def test_a_state_folder_that_does_not_exist_is_one_problem(tmp_path: Path) -> None:
    ran = call_mmd("doctor", "--json", state=tmp_path / "nothing")
    found = [each["code"] for each in json.loads(ran.out)["findings"] if each["severity"] == "problem"]
    assert (ran.code, found) == (1, ["not_initialised"])
    assert set(json.loads(ran.out)["not_made"]) == {"artifact set", "sample store", "models"}
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("installed", "engine", "code"),
    [
        (("onnxruntime",), "ort_training", "wrong_engine"),
        (("onnxruntime", "onnxruntime-training-cpu"), "auto", "two_runtimes"),
    ],
)
def test_a_runtime_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], engine: str, code: str
) -> None:
    known = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name.startswith("onnxruntime") and name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return known("click")

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with rig(tmp_path) as board:
        board.configure(more=f'[training]\nengine = "{engine}"\n')
        assert code in findings(board)


def test_no_runtime_at_all_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with rig(tmp_path) as board:
        assert "no_runtime" in findings(board)


def test_events_that_this_machine_does_not_tell_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus")
    with rig(tmp_path, is_initialised=False) as board:
        board.config.write_text('[daemon]\nsys_root = "/"\n')
        ran = call_mmd("doctor", "--json", state=board.state.root, config=board.config)
        said = [finding for finding in json.loads(ran.out)["findings"] if "system bus" in finding["message"]]
        assert [(finding["code"], finding["severity"]) for finding in said] == [("no_event_source", "note")]
