"""Can only one process own a state folder?"""

import os
from pathlib import Path

import pytest

from mmd.errors import MmdError, UsageError
from mmd.supervisor.lock import DaemonLock


def test_a_second_owner_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    with (
        DaemonLock(tmp_path / "daemon.lock"),
        pytest.raises(UsageError, match=f"already in use by process {os.getpid()}"),
    ):
        DaemonLock(tmp_path / "daemon.lock")


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with DaemonLock(tmp_path / "daemon.lock"):
            pass


def test_the_file_of_a_dead_owner_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").write_text("1\n")
    with DaemonLock(tmp_path / "daemon.lock"):
        assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"


def test_an_owner_that_wrote_nothing_readable_is_still_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    with DaemonLock(path):
        path.write_text("garbage")
        with pytest.raises(UsageError, match="in use by another process"):
            DaemonLock(path)


def test_a_folder_that_cannot_hold_the_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmdError, match=r"Cannot open .*No such file or directory"):
        DaemonLock(tmp_path / "gone" / "daemon.lock")
