"""Does `mmd rollback` bring an earlier model back, and say so?"""

from pathlib import Path

import pytest
from tests.models import put_candidate
from tests.support import call_mmd
from tests.tiny import Board, tiny_board

from mmd.artifact.card import generation_folder


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    for number in (1, 2):
        put_candidate(board.state, number, parent=number - 1)
        board.models().finish_round(number)
    return board


def serving(board: Board) -> int:
    return board.models().current().card.generation


def test_without_a_number_the_one_before_serves_again(board: Board) -> None:
    ran = call_mmd("rollback", state=board.state.root)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Generation 1 serves again; generation 2 is kept and no longer serves.\n"
    assert serving(board) == 1


def test_a_named_generation_serves_again(board: Board) -> None:
    assert call_mmd("rollback", "0", state=board.state.root).code == 0
    assert serving(board) == 0


@pytest.mark.parametrize(
    ("argument", "words"), [("2", "serving already"), ("9", "no generation 9"), ("x", "not a valid")]
)
def test_what_cannot_be_gone_to_is_refused_and_changes_nothing(board: Board, argument: str, words: str) -> None:
    ran = call_mmd("rollback", argument, state=board.state.root)
    assert ran.code == 2
    assert words in ran.err
    assert serving(board) == 2


def test_before_the_first_there_is_nothing(board: Board) -> None:
    for _ in range(2):
        assert call_mmd("rollback", state=board.state.root).code == 0
    ran = call_mmd("rollback", state=board.state.root)
    assert ran.code == 2
    assert "none before it" in ran.err


def test_a_damaged_target_is_refused_as_damage(board: Board) -> None:
    (generation_folder(board.state.models, 0) / "mentee.onnx").write_bytes(b"broken")
    ran = call_mmd("rollback", "0", state=board.state.root)
    assert ran.code == 4
    assert "gen-0000/mentee.onnx" in ran.err
    assert serving(board) == 2
