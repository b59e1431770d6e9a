"""Does the daemon see the programs that want the board for themselves?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Instant, exclusive_processes
from mmd.limits import ExclusiveProcesses

NAMED = ExclusiveProcesses(names=("game", "a-name-longer-than-the-kernel-keeps"))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True).running(1, "init").running(80, "bash")


def at(monotonic: float) -> Instant:
    return Instant(wall=1e9, monotonic=monotonic)


def test_nothing_is_looked_for_where_nothing_is_named(board: Board) -> None:
    reading, look = exclusive_processes.read(board.running(90, "game").root, at(0), None, ExclusiveProcesses())
    assert (reading.value, look) == (0.0, None)


@pytest.mark.parametrize("comm", ["game", "a-name-longer-t"])
def test_a_program_that_is_named_is_found(board: Board, comm: str) -> None:
    reading, _ = exclusive_processes.read(board.running(90, comm).root, at(0), None, NAMED)
    assert reading.value == 1.0
    assert reading.detail.startswith(comm)


@pytest.mark.parametrize("comm", ["gamed", "Game", "pregame", ""])
def test_a_program_of_another_name_is_not(board: Board, comm: str) -> None:
    assert exclusive_processes.read(board.running(90, comm).root, at(0), None, NAMED)[0].value == 0.0


def test_a_process_that_ends_while_it_is_looked_at_is_survived(board: Board) -> None:
    (board.root / "proc/99").mkdir()
    assert exclusive_processes.read(board.root, at(0), None, NAMED)[0].value == 0.0


def test_names_are_read_now_and_then_only(board: Board) -> None:
    _, look = exclusive_processes.read(board.root, at(0), None, NAMED)
    board.running(90, "game")
    reading, look = exclusive_processes.read(board.root, at(0.4), look, NAMED)
    assert reading.value == 0.0
    reading, look = exclusive_processes.read(board.root, at(0.5), look, NAMED)
    assert reading.value == 1.0
    other = ExclusiveProcesses(names=("other",))
    assert exclusive_processes.read(board.root, at(0.5), look, other)[0].value == 0.0, "other names, another look"


def test_processes_that_are_hidden_are_a_problem_and_no_limit(tmp_path: Path) -> None:
    hidden = Board(tmp_path / "hidden", is_bare=True).running(80, "mmd")
    reading, _ = exclusive_processes.read(hidden.root, at(0), None, NAMED)
    assert reading.value is None
    assert "ProtectProc=default" in reading.problems[0]
