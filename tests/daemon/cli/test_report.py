"""Does `mmd report` write its page, or say why it cannot?"""

import json
from pathlib import Path

from tests.models import put_candidate
from tests.support import call_mmd
from tests.tiny import tiny_board


def test_the_page_goes_where_it_is_told_and_json_has_the_figures(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    ran = call_mmd("report", "--out", tmp_path / "r.html", state=board.state.root)
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert json.loads(call_mmd("report", "--json", state=board.state.root).out)["rounds"] == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    ran = call_mmd("report", "--out", tmp_path / "none" / "r.html", state=board.state.root)
    assert (ran.code, len(ran.error_lines)) == (2, 1)
    assert str(tmp_path / "none") in ran.err


def test_what_serves_is_told_and_a_damaged_verdict_costs_its_figures_only(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    folder = put_candidate(board.state, 1, remembers=2)
    board.models().finish_round(1)
    (folder / "verdict.json").write_text("{")
    figures = json.loads(call_mmd("report", "--json", state=board.state.root).out)
    assert ["Serving model", "generation 1, probation: the trained weights with a memory of 2 samples"] in figures[
        "facts"
    ]
    (round_,) = figures["rounds"]
    assert round_["outcome"].startswith("Promoted.")
    assert round_["confusion_after"] is None
