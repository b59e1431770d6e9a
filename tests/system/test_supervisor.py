"""Does the real daemon start, suspend, resume, survive and end as its owner expects? With a trainer that only burns."""

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.fakes.running import Rig, is_alive, rig, wait_for_trainer
from tests.support import call_mmd, eventually, run_mmd, write_png

from mmd.errors import MmdError
from mmd.samples.row_cache import RowCache
from mmd.samples.store import SampleStore
from mmd.supervisor.control import ask
from mmd.supervisor.history import History

SUSPEND_SECONDS = 1.0
LONG = "steps=2000"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        made.script("steps=20")
        yield made


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def seconds_until_still(process: psutil.Process, *, still_for: float = 0.4) -> float:
    """Return the seconds until `process` used the processor for the last time."""
    began = last_used = time.monotonic()
    used = cpu_seconds(process)
    while time.monotonic() - last_used < still_for:
        assert time.monotonic() - began < 10, "it never stood still"
        time.sleep(0.005)
        if cpu_seconds(process) > used:
            used, last_used = cpu_seconds(process), time.monotonic()
    return last_used - began


def rounds(board: Rig) -> list[str | None]:
    with History(board.state.history_db, read_only=True) as history:
        return [record.outcome for record in history.rounds()]


def test_a_round_runs_to_its_verdict_when_nothing_is_in_the_way(board: Rig) -> None:
    board.start()
    eventually(lambda: board.status()["verdict"] is not None, within=120)
    eventually(lambda: board.is_in("idle"))
    status = board.status()
    assert status["round"] is None
    assert status["samples"]["new"] == 0
    assert status["verdict"]["code"] == "not_better_than_chance"
    assert set(board.codes()) == {"cooldown", "nothing_new"}
    assert rounds(board) == ["rejected"]


@pytest.mark.parametrize("poll_seconds", [0.5, 60.0])
def test_training_stands_still_within_a_second_when_the_charger_is_pulled(board: Rig, poll_seconds: float) -> None:
    board.configure(poll_seconds=poll_seconds)
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    board.board.unplug()
    assert seconds_until_still(trainer) <= SUSPEND_SECONDS
    assert board.is_in("suspended")
    assert board.codes() == ["on_battery"]
    assert "state=suspended reason=on_battery round=1 step=" in board.log


def test_training_goes_on_in_the_same_process_when_the_charger_is_back(board: Rig) -> None:
    board.script("steps=60")
    board.start()
    trainer = wait_for_trainer(board)
    board.board.unplug()
    eventually(lambda: board.is_in("suspended"))
    step = board.status()["round"]["step"]
    board.board.plug()
    eventually(lambda: board.is_in("training", "evaluating"))
    assert board.trainer_pid == trainer.pid
    assert board.status()["round"]["step"] >= step
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_a_trainer_suspended_for_long_leaves_with_a_checkpoint_and_comes_back_to_it(board: Rig) -> None:
    board.configure(grace_seconds=0.2)
    board.script("steps=100")
    board.start()
    trainer = wait_for_trainer(board)
    board.board.unplug()
    eventually(lambda: not is_alive(trainer.pid))
    assert board.is_in("suspended")
    checkpoint = int((board.state.rounds / "0001" / "fake-checkpoint").read_text())
    assert checkpoint >= 3
    board.board.plug()
    eventually(lambda: board.is_in("training", "evaluating") and board.status()["round"]["step"] > checkpoint)
    assert board.trainer_pid != trainer.pid
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_a_trainer_that_does_not_leave_is_killed(board: Rig) -> None:
    board.configure(grace_seconds=0.1)
    board.script(f"{LONG} stubborn")
    board.start()
    trainer = wait_for_trainer(board)
    board.board.unplug()
    eventually(lambda: not is_alive(trainer.pid), within=120)
    assert board.is_in("suspended")
    assert "is killed" in board.log


def test_a_suspended_trainer_gives_its_memory_back_at_once_when_memory_is_short(board: Rig) -> None:
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    board.board.memory(available_mib=20)
    eventually(lambda: not is_alive(trainer.pid))
    assert board.codes() == ["memory_low"]


def test_a_trainer_leaves_at_once_when_the_service_manager_wants_memory(board: Rig, tmp_path: Path) -> None:
    fifo = tmp_path / "memory-pressure"
    os.mkfifo(fifo)
    board.environment |= {"MEMORY_PRESSURE_WATCH": str(fifo), "MEMORY_PRESSURE_WRITE": ""}
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    fifo.write_text("now")
    eventually(lambda: not is_alive(trainer.pid))
    assert board.codes() == ["memory_pressure"]
    assert "state=suspended reason=memory_pressure round=1" in board.log


@pytest.mark.parametrize("held", ["cache", "store"])
def test_a_suspended_trainer_that_keeps_others_out_leaves_and_forget_need_not_wait(board: Rig, held: str) -> None:
    board.script(f"{LONG} holds={held}")
    with RowCache(board.state.cache_db, "a scope"):
        pass
    board.start()
    trainer = wait_for_trainer(board)
    with SampleStore(board.state.samples_db) as store:
        not_in_the_round = store.holdout_ids()[0]
    board.board.unplug()
    eventually(lambda: board.is_in("suspended"))
    ran = run_mmd("forget", not_in_the_round, state=board.state.root)
    assert (ran.code, ran.out) == (0, "Forgot 1 sample.\n"), ran.err
    eventually(lambda: not is_alive(trainer.pid))
    assert board.is_in("suspended")


def test_a_killed_trainer_is_started_again_and_goes_on(board: Rig) -> None:
    board.script("steps=100")
    board.start()
    trainer = wait_for_trainer(board)
    trainer.kill()
    eventually(lambda: board.trainer_pid != trainer.pid and is_alive(board.trainer_pid))
    assert "the trainer failed (1): it was killed by SIGKILL." in board.log
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_a_trainer_that_always_fails_is_given_up_with_the_reason_in_the_history(board: Rig) -> None:
    board.script("steps=10 crash_at=5 crashes=99")
    board.start()
    eventually(lambda: rounds(board) == ["abandoned"], within=120)
    done = json.loads((board.state.rounds / "0001" / "done.json").read_text())
    assert done["outcome"] == "abandoned"
    assert done["reason"] == (
        "The trainer failed 3 times without progress; the last time: The fake trainer crashed as told."
    )
    assert "cooldown" in board.codes()
    with History(board.state.history_db, read_only=True) as history:
        assert [event.name for event in history.events()] == ["trainer_failed"] * 3


def test_the_death_of_the_daemon_takes_the_trainer_along_and_the_next_one_goes_on(board: Rig) -> None:
    board.script("steps=60")
    board.start()
    trainer = wait_for_trainer(board)
    board.signal(signal.SIGKILL)
    eventually(lambda: not is_alive(trainer.pid))
    assert board.process is not None
    board.process.wait(60)
    board.start()
    eventually(lambda: rounds(board) == ["rejected"], within=120)
    assert sorted(path.name for path in board.state.rounds.iterdir()) == ["0001"]


def test_an_open_round_waits_suspended_when_the_daemon_starts_on_battery(board: Rig) -> None:
    board.script(LONG)
    board.start()
    wait_for_trainer(board)
    assert board.stop() == 0
    board.board.unplug()
    board.start()
    status = board.status()
    assert status["state"] == "suspended"
    assert status["round"]["number"] == 1


def test_the_end_of_the_daemon_leaves_a_checkpoint_and_no_process(board: Rig) -> None:
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    began = time.monotonic()
    assert board.stop() == 0
    assert time.monotonic() - began < 10
    assert not is_alive(trainer.pid)
    assert (board.state.rounds / "0001" / "fake-checkpoint").exists()
    assert not board.state.control_socket.exists()
    with History(board.state.history_db, read_only=True) as history:
        last = history.last_state()
        assert last is not None
        assert last.state == "stopped"


def test_the_end_of_the_daemon_reaches_a_suspended_trainer_too(board: Rig) -> None:
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    board.board.unplug()
    eventually(lambda: board.is_in("suspended"))
    assert board.stop() == 0
    assert not is_alive(trainer.pid)
    assert (board.state.rounds / "0001" / "fake-checkpoint").exists()


def test_a_stubborn_trainer_does_not_keep_the_daemon_from_leaving(board: Rig) -> None:
    board.script(f"{LONG} stubborn")
    board.start()
    trainer = wait_for_trainer(board)
    assert board.stop() == 0
    assert not is_alive(trainer.pid)
    assert not (board.state.rounds / "0001" / "verdict.json").exists(), "nobody waited for its end"


def test_a_round_that_another_command_closes_ends_at_once(board: Rig) -> None:
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    done = {"round": 1, "outcome": "abandoned", "reason": "A sample was forgotten.", "finished": 1.0}
    (board.state.rounds / "0001" / "done.json").write_text(json.dumps(done))
    eventually(lambda: not is_alive(trainer.pid))
    eventually(lambda: rounds(board)[:1] == ["abandoned"])


def test_a_pause_suspends_and_outlives_the_daemon_until_resume(board: Rig) -> None:
    board.script(LONG)
    board.start()
    wait_for_trainer(board)
    assert ask(board.state.control_socket, {"request": "pause"})["state"] == "suspended"
    assert board.codes() == ["held_by_user"]
    assert board.stop() == 0
    board.start()
    assert board.codes() == ["held_by_user"]
    assert ask(board.state.control_socket, {"request": "resume"})["was_held"] is True
    eventually(lambda: board.is_in("training"))


def test_a_forced_round_runs_on_battery_and_says_what_it_ignores(board: Rig) -> None:
    board.script(LONG)
    board.board.unplug()
    board.start()
    assert board.is_in("waiting")
    assert ask(board.state.control_socket, {"request": "train", "force": True})["state"] == "training"
    why = ask(board.state.control_socket, {"request": "why"})["why"]
    assert why["mode"] == "forced"
    assert why["reasons"] == []
    assert [reason["code"] for reason in why["overridden"]] == ["on_battery"]
    assert ask(board.state.control_socket, {"request": "pause"})["state"] == "suspended"
    assert board.status()["mode"] == "auto"


def test_force_ends_with_its_round(board: Rig) -> None:
    board.board.unplug()
    board.start()
    ask(board.state.control_socket, {"request": "train", "force": True})
    eventually(lambda: rounds(board) == ["rejected"], within=120)
    eventually(lambda: board.status()["mode"] == "auto")


def test_force_without_samples_is_refused(tmp_path: Path) -> None:
    with rig(tmp_path, is_initialised=False) as bare:
        bare.start()
        with pytest.raises(MmdError, match="run `mmd init` first"):
            ask(bare.state.control_socket, {"request": "train", "force": True})
        with pytest.raises(MmdError, match="does not know the request 'dance'"):
            ask(bare.state.control_socket, {"request": "dance"})
        assert bare.codes() == ["no_artifact_set"]
        assert bare.is_in("idle")


def test_a_second_daemon_on_the_same_folder_is_refused_and_the_first_is_named(board: Rig) -> None:
    board.board.unplug()
    board.start()
    assert board.process is not None
    second = run_mmd("run", "--config", board.config, state=board.state.root)
    assert second.code == 2
    assert second.error_lines == [
        f"mmd: {board.state.root} is already in use by process {board.process.pid}; "
        "stop that one first, or choose another --state-dir."
    ]
    assert board.status()["daemon"]["pid"] == board.process.pid


def test_a_reload_takes_the_new_limits_and_keeps_the_old_ones_when_they_are_wrong(board: Rig) -> None:
    board.board.unplug()
    board.start()
    board.configure(more="[conditions.external_powr]\n")
    board.signal(signal.SIGHUP)
    eventually(lambda: "The configuration in force stays as it is." in board.log)
    assert "did you mean `conditions.external_power`?" in board.log
    assert board.codes() == ["on_battery"]
    text = board.config.read_text().replace("dwell_seconds = 0", "required = false", 1)
    board.config.write_text(text.replace("[conditions.external_powr]\n", ""))
    board.signal(signal.SIGHUP)
    eventually(lambda: board.is_in("training", "evaluating", "idle"))


def test_the_log_has_a_line_a_change_and_no_more(board: Rig) -> None:
    board.board.unplug()
    board.start()
    for _ in range(5):
        board.status()
    assert board.log.splitlines() == ["state=waiting reason=on_battery"]


def test_a_lying_sensor_is_named_once_in_the_log(board: Rig) -> None:
    board.board.unplug().zone(3, 2_147_483_647)
    board.start()
    for _ in range(3):
        board.status()
    assert board.log.count("/sys/class/thermal/thermal_zone3/temp says 2147484 °C, which no board has") == 1


def test_a_damaged_plan_costs_the_round_and_not_the_daemon(board: Rig) -> None:
    folder = board.state.rounds / "0001"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{half a pl")
    board.board.unplug()
    board.start()
    assert json.loads((folder / "done.json").read_text())["outcome"] == "abandoned"
    assert board.is_in("waiting")


def test_a_damaged_verdict_is_made_anew(board: Rig) -> None:
    board.script("steps=30")
    board.start()
    wait_for_trainer(board)
    board.signal(signal.SIGKILL)
    assert board.process is not None
    board.process.wait(60)
    (board.state.rounds / "0001" / "verdict.json").write_text("{half a ver")
    board.start()
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_files_in_the_inbox_are_taken_in_by_a_child(board: Rig) -> None:
    board.configure(watch_inbox=True)
    board.board.unplug()
    board.start()
    before = board.status()["samples"]["total"]
    write_png(board.state.inbox / "cat" / "new.png", seed=4711)
    eventually(lambda: board.status()["samples"]["total"] == before + 1, within=120)
    assert not (board.state.inbox / "cat" / "new.png").exists()


def test_the_supervisor_stays_small_and_loads_nothing_heavy(board: Rig) -> None:
    board.configure(watch_inbox=True)
    board.start()
    eventually(lambda: rounds(board) == ["rejected"], within=120)
    assert board.process is not None
    loaded = Path(f"/proc/{board.process.pid}/maps").read_text()
    assert [name for name in ("numpy", "onnxruntime", "PIL", "/onnx/") if name in loaded] == []
    assert board.status()["daemon"]["rss_bytes"] <= 40 * 1024 * 1024


def test_the_service_manager_hears_that_the_daemon_is_ready_and_alive(board: Rig) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(board.folder / "notify"))
        manager.settimeout(60)
        board.configure(poll_seconds=60)
        board.board.unplug()
        board.environment = {"NOTIFY_SOCKET": str(board.folder / "notify"), "WATCHDOG_USEC": "600000"}
        board.start()
        heard = [manager.recv(4096).decode() for _ in range(6)]
        assert any(message.startswith("READY=1\nSTATUS=state=waiting reason=on_battery") for message in heard)
        assert heard.count("WATCHDOG=1") >= 2
        board.signal(signal.SIGTERM)
        eventually(lambda: manager.recv(4096).startswith(b"STOPPING=1"))


def test_a_history_that_cannot_be_used_does_not_keep_the_daemon_from_running(board: Rig) -> None:
    board.state.history_db.write_bytes(b"not a database" * 1000)
    board.start()
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_a_locked_history_delays_nothing_for_long(board: Rig) -> None:
    board.script(LONG)
    board.start()
    trainer = wait_for_trainer(board)
    connection = sqlite3.connect(board.state.history_db)
    connection.execute("BEGIN IMMEDIATE")
    board.board.unplug()
    assert seconds_until_still(trainer) <= SUSPEND_SECONDS
    connection.rollback()
    connection.close()


def test_mmd_run_itself_starts_and_ends(board: Rig) -> None:
    board.board.unplug()
    board.start(sys.executable, "-m", "mmd", "run", "--state-dir", str(board.state.root), "--config", str(board.config))
    assert board.codes() == ["on_battery"]
    assert board.stop() == 0
    assert not board.state.control_socket.exists()


def test_a_round_that_cannot_be_planned_is_a_reason_and_not_the_end(board: Rig) -> None:
    board.configure(more='[training]\npreset = "nonsense"\n')
    board.start()
    eventually(lambda: "trainer_failed" in board.codes())
    assert board.is_in("waiting")
    (reason,) = [reason for reason in board.status()["reasons"] if reason["code"] == "trainer_failed"]
    assert "has no preset `nonsense`" in reason["message"]
    board.configure()
    board.signal(signal.SIGHUP)
    eventually(lambda: rounds(board) == ["rejected"], within=120)


def test_a_round_waits_until_the_last_sample_has_arrived(board: Rig) -> None:
    board.script(LONG)
    board.board.unplug()
    board.start()
    for seed in range(9000, 9012):
        write_png(board.folder / "more" / "cat" / f"{seed}.png", seed)
    assert call_mmd("ingest", board.folder / "more", state=board.state.root).code == 0
    eventually(lambda: "samples_arriving" in board.codes())
    board.board.plug()
    assert "samples_arriving" in board.codes()
    eventually(lambda: board.is_in("training"))


def test_what_a_killed_forget_left_is_gone_once_the_daemon_runs(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        for leftover in (board.state.models / ".gen-0007.removed", board.state.root / ".set.removed"):
            leftover.mkdir()
            (leftover / "parameters.safetensors").write_bytes(b"what the sample left")
        board.start()
        assert not list(board.state.models.glob(".gen-*"))
        assert not list(board.state.root.glob(".set*"))


def test_a_duty_cycle_stops_the_trainer_in_place_and_lets_it_go_on(tmp_path: Path) -> None:
    with rig(tmp_path, more="[conditions.duty_cycle]\nshare_percent = 50\nburst_minutes = 0.05\n") as board:
        board.script("steps=100000")
        board.start()
        child = wait_for_trainer(board)
        for _ in range(2):
            eventually(lambda: child.status() == psutil.STATUS_STOPPED)
            assert board.codes() == ["duty_cycle"]
            eventually(lambda: board.is_in("training"))
        assert board.trainer_pid == child.pid


def test_a_daily_budget_ends_training_for_today_over_restarts_too(tmp_path: Path) -> None:
    with rig(tmp_path, more="[conditions.training_time_today]\nstop_minutes = 0.05\n") as board:
        board.script("steps=100000")
        board.start()
        eventually(lambda: board.codes() == ["time_budget_spent"])
        used = board.status()["usage"]["minutes_today"]
        assert used >= 0.05
        assert board.stop() == 0
        board.start()
        assert board.codes() == ["time_budget_spent"]
        assert board.status()["usage"]["minutes_today"] == used
        assert board.is_in("suspended")
