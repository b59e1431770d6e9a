"""Is a trainer caged, heard, stopped in place and killed, and does it never outlive its supervisor?"""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fakes.running import is_alive
from tests.support import eventually

from mmd.supervisor.control_groups import TrainerGroup
from mmd.supervisor.trainer_process import LONGEST_LINE_BYTES, TrainerProcess, describe_exit

BURN = "while True: pass"


@contextmanager
def trainer(code: str, *, memory_mib: float = 512) -> Iterator[TrainerProcess]:
    process = TrainerProcess([sys.executable, "-c", textwrap.dedent(code)], memory_mib=memory_mib)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.close()


def events_of(process: TrainerProcess) -> list[dict[str, Any]]:
    """Return everything that the process says until it ends."""
    events: list[dict[str, Any]] = []

    def has_ended() -> bool:
        events.extend(process.read_events())
        return process.has_ended_output

    eventually(has_ended)
    return events


def ready(process: TrainerProcess) -> psutil.Process:
    """Wait until the cage has become the trainer."""
    found = psutil.Process(process.pid)
    eventually(lambda: found.cmdline()[1:2] == ["-c"], within=240)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.usefixtures("idle_scheduling")
def test_a_trainer_is_as_humble_as_the_kernel_allows() -> None:
    with trainer(BURN, memory_mib=300) as process:
        caged = ready(process)
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        assert caged.nice() == 19
        assert caged.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA)[0] == 300 * 1024 * 1024
        assert os.getpgid(process.pid) == process.pid


def test_trainers_of_the_other_tests_have_a_share_of_busy_cores() -> None:
    with trainer(BURN) as process:
        caged = ready(process)
        assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
        assert caged.nice() == psutil.Process().nice()


def test_a_trainer_enters_the_control_group_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "memory.max").touch()
    process = TrainerProcess([sys.executable, "-c", "pass"], memory_mib=64, group=TrainerGroup(tmp_path))
    eventually(lambda: process.exit_status() is not None)
    process.close()
    assert (tmp_path / "cgroup.procs").read_text() == str(process.pid)
    assert (tmp_path / "memory.max").read_text() == str(64 * 1024 * 1024)
    assert not process.was_killed_for_memory


def test_a_kill_is_for_memory_only_when_the_kernel_counted_one_and_nobody_here_sent_it(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 3\n")
    for is_counted, is_ours, expected in [(True, False, True), (False, False, False), (True, True, False)]:
        process = TrainerProcess([sys.executable, "-c", BURN], memory_mib=512, group=TrainerGroup(tmp_path))
        if is_ours:
            process.kill()
        else:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        process.close()
        before = int(events.read_text().split()[1])
        events.write_text(f"oom_kill {before + is_counted}\n")
        assert process.was_killed_for_memory is expected


def test_memory_beyond_the_limit_is_refused_to_the_trainer_alone() -> None:
    code = """
        import json
        try:
            bytearray(400 * 1024 * 1024)
        except MemoryError:
            print(json.dumps({"event": "refused"}), flush=True)
    """
    with trainer(code, memory_mib=200) as process:
        assert events_of(process) == [{"event": "refused"}]


def test_what_a_trainer_says_is_heard_line_by_line() -> None:
    code = """
        import json, sys
        for step in range(3):
            print(json.dumps({"event": "step", "step": step}), flush=True)
    """
    with trainer(code) as process:
        assert [event["step"] for event in events_of(process)] == [0, 1, 2]
        assert process.wait(60) == 0


def test_listening_never_waits() -> None:
    with trainer(BURN) as process:
        assert process.read_events() == []


def test_words_that_are_no_events_are_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    code = f"""
        import sys
        print("Warning: something"); print("[1, 2]"); print('{{"no": "event"}}')
        sys.stdout.write("x" * {LONGEST_LINE_BYTES + 100_000} + "\\n")
        print('{{"event": "after"}}')
    """
    with trainer(code) as process:
        assert events_of(process) == [{"event": "after"}]
    assert "the trainer said: Warning: something" in caplog.text


def test_a_suspended_trainer_uses_no_processor_until_it_goes_on() -> None:
    with trainer(BURN) as process:
        burning = ready(process)
        process.suspend()
        eventually(lambda: burning.status() == psutil.STATUS_STOPPED)
        before = cpu_seconds(burning)
        assert process.read_events() == []
        assert cpu_seconds(burning) == before
        process.go_on()
        eventually(lambda: cpu_seconds(burning) > before)


def test_a_suspended_trainer_can_be_asked_to_leave() -> None:
    code = """
        import json, signal, sys
        def leave(*_):
            print(json.dumps({"event": "stopped"}), flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print(json.dumps({"event": "ready"}), flush=True)
        while True: pass
    """
    with trainer(code) as process:
        eventually(lambda: process.read_events() == [{"event": "ready"}])
        process.suspend()
        process.ask_to_leave()
        assert events_of(process) == [{"event": "stopped"}]
        assert process.wait(60) == 0
        assert process.was_asked_to_leave


def test_a_trainer_dies_with_its_supervisor_however_that_dies(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from mmd.supervisor.trainer_process import TrainerProcess
        process = TrainerProcess([sys.executable, "-c", {BURN!r}], memory_mib=512)
        print(process.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    eventually(lambda: psutil.Process(pid).cmdline()[1:2] == ["-c"])
    psutil.Process(pid).suspend()
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    parent.stdout.close()
    eventually(lambda: not is_alive(pid))


def test_a_trainer_whose_supervisor_is_gone_already_does_not_start() -> None:
    cage = [sys.executable, "-m", "mmd.supervisor.cage", "--parent", "1", "--memory-mib", "100", "--", "true"]
    assert subprocess.run(cage, check=False).returncode == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "it ended with exit code 1"),
        (-9, "it was killed by SIGKILL"),
        (-6, "it was killed by SIGABRT"),
        (-99, "it was killed by signal 99"),
    ],
)
def test_how_a_trainer_ended_is_said_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


def test_signals_to_a_trainer_that_ended_go_nowhere() -> None:
    with trainer("pass") as process:
        process.wait(60)
        process.suspend()
        process.go_on()
        process.ask_to_leave()
        assert process.exit_status() == 0
