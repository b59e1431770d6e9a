"""Is the inbox emptied by a child process, one at a time, and does nothing about it stop the daemon?"""

import logging
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from tests.support import eventually

from mmd.layout import StateDir
from mmd.supervisor.inbox_watch import Inbox


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox(StateDir(tmp_path), tmp_path / "mmd.toml")
    yield made
    made.close()


def test_settled_files_wake_the_daemon_and_start_a_pass(tmp_path: Path, inbox: Inbox) -> None:
    inbox._command = ["touch", str(tmp_path / "passed")]
    (tmp_path / "inbox" / "new.png").write_bytes(b"x")
    with selectors.DefaultSelector() as selector:
        selector.register(inbox, selectors.EVENT_READ)
        assert selector.select(20)
    inbox.take_notice()
    eventually((tmp_path / "passed").exists)


def test_a_pass_is_told_the_state_folder_and_the_configuration(tmp_path: Path, inbox: Inbox) -> None:
    assert inbox._command[1:] == [
        *("-m", "mmd", "ingest", "--inbox", "--state-dir", str(tmp_path), "--config", str(tmp_path / "mmd.toml"))
    ]


def test_a_second_pass_waits_for_the_first(tmp_path: Path, inbox: Inbox) -> None:
    inbox._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with mock.patch.object(subprocess, "Popen", wraps=subprocess.Popen) as started:
        for _ in range(3):
            inbox._settled()
            inbox.take_notice()
        assert started.call_count == 1


def test_a_pass_that_fails_is_named(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    inbox._command = [sys.executable, "-c", "raise SystemExit(4)"]
    inbox._settled()
    inbox.take_notice()

    def is_reaped() -> bool:
        inbox.look()
        return inbox._child is None

    with caplog.at_level(logging.WARNING):
        eventually(is_reaped)
    assert "taking in the inbox failed with exit code 4" in caplog.text


def test_a_pass_that_cannot_be_started_is_named_and_tried_again(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    inbox._command = ["/nowhere/at-all"]
    inbox._settled()
    inbox.take_notice()
    assert "cannot take in the inbox now" in caplog.text
    assert inbox._is_due


def test_the_end_ends_a_pass_that_runs(tmp_path: Path) -> None:
    inbox = Inbox(StateDir(tmp_path), None)
    inbox._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    inbox._settled()
    inbox.take_notice()
    child = inbox._child
    inbox.close()
    assert child is not None
    assert child.returncode is not None
