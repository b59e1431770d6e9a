"""Does `mmd run` start as a daemon should, and refuse what it must?"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import call_mmd, eventually, run_mmd

from mmd.layout import StateDir


def test_run_stays_until_it_is_told_to_end(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmd", "run", "--state-dir", str(state.root)], stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: state.control_socket.exists())
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=20)
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
    process.communicate(timeout=20)
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
