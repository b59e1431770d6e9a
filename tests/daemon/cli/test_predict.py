"""Does `mmd predict` answer for every file, and name the ones that it cannot read?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support import call_mmd, run_mmd, write_png
from tests.tiny import CLASSES, Board, tiny_board, tiny_samples

from mmd import durable


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set, samples=4)


def test_each_file_gets_a_line(board: Board, tmp_path: Path) -> None:
    files = [write_png(tmp_path / f"{number}.png", number) for number in range(3)]
    ran = call_mmd("predict", *files, state=board.state.root)
    assert (ran.code, ran.err) == (0, "")
    for path, line in zip(files, ran.out.splitlines(), strict=True):
        name, answer = line.split(": ")
        assert name == str(path)
        assert answer.split()[0] in CLASSES


def test_json_has_an_object_a_line_with_path_label_probabilities_and_generation(board: Board, tmp_path: Path) -> None:
    path = write_png(tmp_path / "one.png", 1)
    ran = call_mmd("predict", "--json", path, state=board.state.root)
    answer = json.loads(ran.out)
    assert set(answer) == {"path", "label", "probabilities", "generation"}
    assert answer["path"] == str(path)
    assert answer["generation"] == 0
    assert answer["probabilities"].keys() == set(CLASSES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_an_array_file_gets_a_line_a_row(board: Board, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", tiny_samples(3, seed=1)[0])
    lines = call_mmd("predict", "--json", tmp_path / "many.npy", state=board.state.root).out.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [f"{tmp_path / 'many.npy'}[{row}]" for row in range(3)]


def test_a_folder_means_the_files_in_it(board: Board, tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "note.txt"):
        write_png(tmp_path / "in" / name, 1)
    lines = call_mmd("predict", tmp_path / "in", state=board.state.root).out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / "in" / name) for name in ("a/1.png", "b/2.png")]


def test_a_file_that_cannot_be_read_is_one_line_and_the_others_are_answered(board: Board, tmp_path: Path) -> None:
    good = write_png(tmp_path / "good.png", 1)
    (tmp_path / "text.png").write_text("not a picture")
    ran = call_mmd("predict", tmp_path / "text.png", good, tmp_path / "none.png", state=board.state.root)
    assert ran.code == 3
    assert len(ran.out.splitlines()) == 1
    assert [line.split(" ")[1] for line in ran.error_lines] == [str(tmp_path / "text.png"), str(tmp_path / "none.png")]


def test_a_folder_without_samples_is_refused(board: Board, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = call_mmd("predict", tmp_path / "empty", state=board.state.root)
    assert ran.code == 3
    assert len(ran.error_lines) == 1


def test_without_a_whole_model_the_store_is_damaged(board: Board, tmp_path: Path) -> None:
    (board.state.models / "gen-0000" / "mentee.onnx").write_bytes(b"broken")
    ran = call_mmd("predict", write_png(tmp_path / "one.png", 1), state=board.state.root)
    assert ran.code == 4
    assert "mmd init" in ran.err


def test_a_damaged_serving_model_is_a_warning_in_our_own_words(board: Board, tmp_path: Path) -> None:
    models = board.state.models
    shutil.copytree(models / "gen-0000", models / "gen-0001")
    (models / "gen-0001" / "mentee.onnx").write_bytes(b"broken")
    durable.replace_link(models / "current", "gen-0001")
    ran = run_mmd("predict", write_png(tmp_path / "one.png", 1), state=board.state.root)
    assert ran.code == 0
    assert ran.error_lines[0] == "mmd: gen-0001/mentee.onnx fails its checksum."
    assert all(line.startswith("mmd: ") for line in ran.error_lines)


def test_without_a_path_it_is_a_usage_error(board: Board) -> None:
    assert call_mmd("predict", state=board.state.root).code == 2


def test_a_file_name_cannot_break_a_line_or_colour_the_terminal(board: Board, tmp_path: Path) -> None:
    good = write_png(tmp_path / "a\n\x1b[31mb.png", 1)
    bad = tmp_path / "c\nd.png"
    bad.write_text("no picture")
    ran = call_mmd("predict", good, bad, state=board.state.root)
    assert ran.code == 3
    assert ran.out.startswith(f"{tmp_path}/a??[31mb.png: ")
    assert len(ran.out.splitlines()) == len(ran.error_lines) == 1
    assert json.loads(call_mmd("predict", "--json", good, state=board.state.root).out)["path"] == str(good)
