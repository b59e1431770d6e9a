"""Is a process that keeps others out of the stores told from one that only has them open?"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes.board import Board
from tests.support import call_mmd, write_fake_set

from mmd.layout import StateDir
from mmd.samples.row_cache import RowCache
from mmd.supervisor.held_locks import keeps_others_out

OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchone()
print(flush=True)
sys.stdin.read()
"""
READ = "SELECT * FROM sqlite_master"


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    ran = call_mmd("init", "--set", write_fake_set(tmp_path / "set"), state=made.root)
    assert ran.code == 0, ran.err
    with RowCache(made.cache_db, "a scope"):
        return made


@contextmanager
def process(path: Path, *statements: str) -> Iterator[int]:
    """Have a process run `statements` on a database and stay."""
    command = [sys.executable, "-c", OTHER, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield other.pid


@pytest.mark.parametrize(
    ("name", "statements", "expected"),
    [
        ("samples.db", [READ], False),
        ("samples.db", ["BEGIN", READ], True),
        ("samples.db", ["BEGIN IMMEDIATE"], True),
        ("cache.db", [READ], False),
        ("cache.db", ["BEGIN", READ], True),
        ("cache.db", ["BEGIN IMMEDIATE"], True),
    ],
)
def test_only_who_is_in_the_middle_of_something_keeps_others_out(
    state: StateDir, name: str, statements: list[str], expected: bool
) -> None:
    with process(state.root / name, *statements) as other:
        assert keeps_others_out(other, state) is expected
        assert keeps_others_out(os.getpid(), state) is False


def test_a_board_that_lists_no_locks_and_a_state_without_stores_hold_nobody_up(tmp_path: Path) -> None:
    assert keeps_others_out(1, StateDir(tmp_path)) is False
    assert keeps_others_out(1, StateDir(tmp_path), root=Board(tmp_path / "board", is_bare=True).root) is False


def test_garbage_and_locks_that_are_waited_for_are_left_out(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.cache_db.touch()
    inode = state.cache_db.stat().st_ino
    locks = tmp_path / "proc/locks"
    locks.parent.mkdir()
    locks.write_text(
        f"1: -> POSIX ADVISORY WRITE 7 fd:01:{inode} 0 EOF\n2: POSIX ADVISORY\n\nx: POSIX A B 7 no 0 EOF\n"
    )
    assert keeps_others_out(7, state, root=tmp_path) is False
    locks.write_text(f"1: POSIX  ADVISORY  WRITE 7 fd:01:{inode} 0 EOF\n")
    assert keeps_others_out(7, state, root=tmp_path) is True
