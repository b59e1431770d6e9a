"""Does `mmd run` start as a daemon should, and refuse what it must?"""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes.running import is_alive
from tests.support import call_mmd, eventually, run_mmd

from mmd.layout import StateDir
from mmd.supervisor.history import History


def test_run_stays_until_it_is_told_to_end(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmd", "run", "--state-dir", str(state.root)], stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: state.control_socket.exists())
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    first, last = next(line for line in log.splitlines() if "state=" in line), log.splitlines()[-1]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d mmd: state=idle", first)
    assert "reason=no_artifact_set" in first
    assert last.endswith("mmd: stopped")


def test_under_the_journal_each_line_has_its_priority_and_no_clock(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    config = tmp_path / "mmd.toml"
    config.write_text("")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmd", "run", "--state-dir", str(state.root), "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JOURNAL_STREAM": "8:1"},
    )
    eventually(lambda: state.control_socket.exists())
    config.write_text("[daemon]\npol_seconds = 1\n")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    while "pol_seconds" not in lines[-1]:
        lines.append(process.stderr.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert [line for line in lines if line.startswith("<6>state=idle")]
    assert lines[-1].startswith("<4>The configuration")


def test_run_with_a_wrong_configuration_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "mmd.toml"
    config.write_text("[conditions.user_idle]\nstart_seconds = 10\nstop_seconds = 20\n")
    ran = call_mmd("run", state=tmp_path / "state", config=config)
    assert ran.code == 2
    assert "contradicts itself" in ran.err


def test_run_in_a_folder_that_it_may_not_write_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = run_mmd("run", state=tmp_path / "file" / "state")
    assert ran.code == 1
    assert len(ran.error_lines) == 1
    assert "file/state" in ran.err


@contextmanager
def terminal(*command: str) -> Iterator["tuple[int, subprocess.Popen[bytes]]"]:
    """Start a command as a terminal window does; yield the window's end of the terminal, and the command."""
    window, inner = pty.openpty()
    # Tests that run under nohup would hand on that the end of a terminal is nothing to them.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = subprocess.Popen(["setsid", "--ctty", *command], stdin=inner, stdout=inner, stderr=inner)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(inner)
    try:
        yield window, process
    finally:
        process.kill()
        process.wait()


def run_line(state: StateDir) -> list[str]:
    return [sys.executable, "-m", "mmd", "run", "--state-dir", str(state.root)]


def begin_in(window: int, line: str, state: StateDir) -> int:
    """Type `line` into the window, and return the pid of the daemon that it starts, once that answers."""
    os.write(window, f"{line}\n".encode())
    eventually(state.control_socket.exists)
    return int(state.lock_file.read_text())


def wait_for_the_end(pid: int) -> None:
    try:
        eventually(lambda: not is_alive(pid))
    except AssertionError:
        os.kill(pid, signal.SIGKILL)  # nobody else has it any more
        raise


def has_ended(state: StateDir) -> bool:
    with History(state.history_db, read_only=True) as history:
        last = history.last_state()
        return last is not None and last.state == "stopped"


@pytest.mark.parametrize("job", ["", " &"], ids=["foreground", "background"])
def test_the_end_of_its_terminal_ends_it_as_sigterm_does(tmp_path: Path, job: str) -> None:
    state = StateDir(tmp_path / "state")
    with terminal("bash", "--norc", "--noprofile", "-i") as (window, _):
        pid = begin_in(window, f"{' '.join(run_line(state))}{job}", state)
        os.close(window)
        wait_for_the_end(pid)
    assert has_ended(state)
    assert not state.control_socket.exists()


def test_the_end_of_a_terminal_that_it_has_to_itself_is_a_clean_end(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with terminal(*run_line(state)) as (window, process):
        eventually(state.control_socket.exists)
        os.close(window)
        assert process.wait(60) == 0
    assert has_ended(state)


def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with terminal("bash", "--norc", "--noprofile", "-i") as (window, shell):
        pid = begin_in(window, f"nohup {' '.join(run_line(state))} >{tmp_path}/log 2>&1 &", state)
        os.close(window)
        shell.wait(60)
        os.kill(pid, signal.SIGHUP)
        try:
            assert run_mmd("status", "--json", state=state.root).code == 0
            assert is_alive(pid)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for_the_end(pid)
    assert has_ended(state)


def test_in_a_terminal_that_stays_open_sighup_reads_the_configuration_again(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    config = tmp_path / "mmd.toml"
    config.write_text("")
    with terminal(*run_line(state), "--config", str(config)) as (window, process):
        eventually(state.control_socket.exists)
        config.write_text("[daemon]\npol_seconds = 1\n")
        process.send_signal(signal.SIGHUP)
        said = b""
        while b"The configuration in force stays as it is." not in said:
            said += os.read(window, 4096)
        process.terminate()
        assert process.wait(60) == 0
        os.close(window)


LAST_WORDS = """
import selectors, sys
from mmd.supervisor.signals import Signals
with selectors.DefaultSelector() as selector:
    signals = Signals(selector, lambda: None)
    print("begun", flush=True)
    while not signals.is_stop_asked:
        selector.select()
    print("to nobody", end="")
"""


def test_what_is_still_said_to_a_terminal_that_is_gone_is_no_failure() -> None:
    with terminal(sys.executable, "-c", LAST_WORDS) as (window, process):
        os.read(window, 1)
        os.close(window)
        assert process.wait(60) == 0
