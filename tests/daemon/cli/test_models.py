"""Does `mmd models` name every model and which one serves?"""

import json
from pathlib import Path
from typing import Literal

import pytest
from tests.models import put_candidate, verdict
from tests.support import call_mmd
from tests.tiny import Board, tiny_board

from mmd.artifact.card import generation_folder
from mmd.artifact.review import Review
from mmd.cli.models import review_words


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    put_candidate(board.state, 1, sample_ids=("x", "y"))
    board.models().finish_round(1)
    return board


def test_the_table_shows_what_each_model_is(board: Board) -> None:
    ran = call_mmd("models", state=board.state.root)
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert lines[2][:2] == ["0", "shipped"]
    assert lines[3][:3] == ["*", "1", "probation"]
    assert "10 -> 19 of 20" in ran.out
    *_, shipped, promoted, legend = ran.out.splitlines()
    assert (shipped, promoted) == ("0: the shipped weights", "1: the trained weights")
    assert legend.startswith("* serves; judged: ")


def test_what_judged_out_of_fold_and_what_a_model_is_made_of_are_shown(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    judged = verdict(1, out_of_fold_total=30, out_of_fold_right_before=20, out_of_fold_right_after=25)
    put_candidate(board.state, 1, verdict=judged, sample_ids=("x", "y"), blend=0.5, remembers=2, precision="int8")
    board.models().finish_round(1)
    out = call_mmd("models", state=board.state.root).out
    assert "30 -> 44 of 50" in out
    assert "1: weights 50% of the way to the trained ones with a memory of 2 samples, in int8" in out
    promoted = json.loads(call_mmd("models", "--json", state=board.state.root).out)[1]
    assert (promoted["blend"], promoted["remembers"], promoted["precision"]) == (0.5, 2, "int8")
    assert (promoted["out_of_fold_right_before"], promoted["out_of_fold_right_after"]) == (20, 25)
    assert promoted["out_of_fold_total"] == 30


def test_json_has_an_object_a_model(board: Board) -> None:
    ran = call_mmd("models", "--json", state=board.state.root)
    shipped, promoted = json.loads(ran.out)
    assert (shipped["generation"], shipped["phase"], shipped["serves"], shipped["round"]) == (0, "shipped", False, None)
    assert promoted["serves"]
    assert (promoted["round"], promoted["parent"], promoted["samples"]) == (1, 0, 2)
    assert (promoted["holdout_right_before"], promoted["holdout_right_after"], promoted["holdout_total"]) == (
        10,
        19,
        20,
    )


def test_a_damaged_model_is_shown_as_such(board: Board) -> None:
    (generation_folder(board.state.models, 1) / "card.json").write_text("{")
    entries = json.loads(call_mmd("models", "--json", state=board.state.root).out)
    assert [(entry["phase"], entry["serves"]) for entry in entries] == [("shipped", True), ("damaged", False)]
    assert "damaged" in call_mmd("models", state=board.state.root).out


def test_without_a_state_folder_it_names_init(tmp_path: Path) -> None:
    ran = call_mmd("models", state=tmp_path / "nothing")
    assert ran.code == 2
    assert "mmd init" in ran.err


@pytest.mark.parametrize(
    ("state", "phase", "serves", "told"),
    [
        ("open", "probation", True, "probation: As told."),
        ("open", "probation", False, "probation, until another model served: 3 -> 4 right of 5 samples."),
        ("open", "withdrawn", False, "probation, until another model served: 3 -> 4 right of 5 samples."),
        ("passed", "confirmed", False, "probation: As told."),
        ("failed", "withdrawn", False, "taken back: As told."),
    ],
)
def test_a_probation_is_told_with_what_came_of_it(
    state: Literal["open", "passed", "failed"], phase: str, serves: bool, told: str
) -> None:
    review = Review(
        state=state,
        reason="As told.",
        generation=1,
        generation_before=0,
        judged=5,
        right_before=3,
        right_after=4,
        evidence=0.5,
        reviewed=0.0,
    )
    assert review_words(review, phase, serves=serves) == told
