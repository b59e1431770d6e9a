"""Does the bench of mentoring give every row the same digits and start, and tell chance from gain?"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from tests.tools.networks import NEEDS_TRAINING_BUILD
from tests.tools.test_fashion import RECIPE, write_garments

from mmd.artifact.load import open_set
from mmd.artifact.shipped import shipped_owner, shipped_set
from mmd.errors import InputRefused, UsageError
from mmd_tools import prepare_digits
from mmd_tools.bench import mentoring_mentors
from mmd_tools.bench.mentoring import ALL_SIZES, MENTEE_NAMES, mentoring_command
from mmd_tools.bench.mentoring_mentors import teacher_of_set
from mmd_tools.bench.mentoring_report import MentoringResults, markdown, sign_flip_p, write_results
from mmd_tools.bench.mentoring_run import INDEPENDENT, MENTEES, MENTOR, ROWS, STEPS, MentoringBench, Record, draw
from mmd_tools.bench.owners_data import read_pictures
from mmd_tools.bench.tables import conditions, read_raw
from mmd_tools.nets import build_net
from mmd_tools.prepare_fashion import read_garments
from mmd_tools.recipe_check import load_recipe
from mmd_tools.train_data import Part


def _digits() -> Part:
    """The shipped set's anchor digits: there are some of every class."""
    return Part(*open_set(shipped_set()).anchor())


def _results(gains: tuple[float, ...]) -> MentoringResults:
    records = [Record(MENTOR, 1000, 0, 0, MENTOR, 99, 100, 0, 0.0)]
    for seed, gain in enumerate(gains):
        for row in ROWS:
            right = 50 + seed + (0 if row == INDEPENDENT else gain)
            records.append(Record("a 16th", 60, 10, seed, row, int(right), 100, 300, 1.0))
    return MentoringResults(bench="mentoring", conditions=conditions("command", "digits", "0" * 64), records=records)


def test_smaller_subsets_are_the_beginning_of_larger_ones_and_have_every_class_equally() -> None:
    digits = _digits()
    large, small = draw(digits, 4, seed=1), draw(digits, 2, seed=1)
    assert np.array_equal(large.inputs[:20], small.inputs)
    assert np.bincount(large.labels).tolist() == [4] * 10
    assert not np.array_equal(large.inputs, draw(digits, 4, seed=2).inputs)


def test_every_size_and_mentee_that_can_be_asked_for_is_there() -> None:
    assert tuple(STEPS) == ALL_SIZES
    assert tuple(MENTEES) == MENTEE_NAMES


@NEEDS_TRAINING_BUILD
def test_rows_differ_in_their_schedule_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, 1, 3)
    test = Part(*open_set(shipped_set()).gate_anchor())
    bench = MentoringBench(teacher_of_set(open_set(shipped_set()), tmp_path), _digits(), test, tmp_path)
    records = list(bench.records(1, "a 64th", (1,)))
    assert {record.row for record in records} == set(ROWS)
    assert {(record.parameters, record.steps, record.total) for record in records} == {(2805, 3, 397)}
    left = list(bench.records(1, "a 64th", (1,), {record.cell for record in records[1:]}))
    assert [record.cell for record in left] == [records[0].cell]
    assert left[0].right == records[0].right, "the same digits, start and steps"
    mentor = bench.mentor_record()
    assert mentor.right / mentor.total > 0.95


def test_a_mentee_is_about_as_small_as_its_name_says() -> None:
    from mmd_tools.nets import NetRecipe, parameter_count

    counts = [parameter_count(build_net(NetRecipe(layers=layers, input=(1, 28, 28)))) for layers in MENTEES.values()]
    assert counts == sorted(counts, reverse=True)
    assert len(counts) == 3


def test_five_gains_of_five_are_rarely_chance_and_mixed_ones_often_are() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 1.5, 1.0, 3.0])) == pytest.approx(2 / 32)
    assert sign_flip_p(np.array([1.0, -1.0])) == 1.0


def test_the_table_shows_mean_spread_and_chance(tmp_path: Path) -> None:
    table = markdown(_results((2, 4, 3)))
    assert "| independent | 51.00 ± 1.00 |" in table
    assert "| obedient | 54.00 ± 1.73 (+3.00, 0.25) |" in table
    assert "1/17 of the Mentor's; 3 seed(s)" in table
    write_results(_results((1, 2, 3)), tmp_path, with_plot=False)
    assert read_raw(tmp_path / "mentoring.json", MentoringResults).records == _results((1, 2, 3)).records


def test_a_table_of_a_run_that_was_stopped_says_where_seeds_are_missing() -> None:
    whole = _results((2, 4, 3))
    stopped = msgspec.structs.replace(whole, records=whole.records[:-1])
    lines = markdown(stopped).splitlines()
    assert "| adamant | 53.50 ± 2.12 (+3.00, 0.5) of 2 |" in lines
    assert "| obedient | 54.00 ± 1.73 (+3.00, 0.25) |" in lines


def test_the_picture_is_drawn_again_from_raw_values(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_results(_results((1, 2, 3)), tmp_path, with_plot=False)
    arguments = ["--redraw", "--data", str(tmp_path), "--out", str(tmp_path)]
    assert CliRunner().invoke(mentoring_command, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "mentoring.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_TRAINING_BUILD
def test_the_quick_form_runs_on_public_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = read_pictures(shipped_owner(), "owner").samples
    digits = prepare_digits.Digits(
        owner.inputs, owner.labels, np.full(len(owner.labels), 10), np.zeros(len(owner.labels), np.bool_)
    )
    monkeypatch.setattr(mentoring_mentors, "read_digits", lambda folder: digits)
    monkeypatch.setattr(mentoring_mentors, "read_test_digits", lambda folder: (owner.inputs, owner.labels))
    monkeypatch.setitem(STEPS, 1, 5)
    monkeypatch.setattr("mmd_tools.bench.mentoring.QUICK_SIZES", (1, 7))
    monkeypatch.setitem(STEPS, 7, 5)
    arguments = ["--quick", "--no-plot", "--data", str(tmp_path), "--out", str(tmp_path), "--resume"]
    done = CliRunner().invoke(mentoring_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "samples a class | 1 | 7" in done.output
    raw = tmp_path / "mentoring-quick.json"
    whole = read_raw(raw, MentoringResults)
    write_results(msgspec.structs.replace(whole, records=whole.records[:-2]), tmp_path, with_plot=False)
    assert CliRunner().invoke(mentoring_command, arguments, catch_exceptions=False).exit_code == 0
    finished = read_raw(raw, MentoringResults)
    assert [(one.cell, one.right) for one in finished.records] == [(one.cell, one.right) for one in whole.records]
    monkeypatch.setattr("mmd_tools.bench.tables.__version__", "another")
    refused = CliRunner().invoke(mentoring_command, arguments)
    assert isinstance(refused.exception, UsageError)
    assert "leave out --resume" in str(refused.exception)


@NEEDS_TRAINING_BUILD
def test_garments_go_the_same_way_under_a_mentor_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the shipped owner's digits in the place of garments, and a Mentor that has learned nothing."""
    write_garments(tmp_path, read_pictures(shipped_owner(), "owner").samples)
    recipe = load_recipe(RECIPE)
    network = build_net(recipe.nets["mentor"])
    (tmp_path / "mentor.onnx").write_bytes(network.SerializeToString())
    garments = read_garments(tmp_path)
    np.savez(tmp_path / "anchor.npz", inputs=garments.inputs, labels=garments.labels)
    monkeypatch.setattr(
        "mmd_tools.recipe_check.load_recipe",
        lambda path: msgspec.structs.replace(recipe, anchor=str(tmp_path / "anchor.npz")),
    )
    monkeypatch.setattr("mmd_tools.bench.mentoring.QUICK_SIZES", (1,))
    monkeypatch.setitem(STEPS, 1, 3)
    arguments = ["--dataset", "fashion", "--quick", "--no-plot", "--data", str(tmp_path), "--out", str(tmp_path)]
    done = CliRunner().invoke(mentoring_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "Fashion-MNIST's 112 test pictures" in done.output
    assert len(read_raw(tmp_path / "mentoring-fashion-quick.json", MentoringResults).records) == 1 + len(ROWS)
    (tmp_path / "mentor.onnx").unlink()
    refused = CliRunner().invoke(mentoring_command, arguments)
    assert isinstance(refused.exception, InputRefused)
    assert "artifacts/fashion/README.md" in str(refused.exception)
