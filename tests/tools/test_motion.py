"""Is wrist motion cut into windows and split by person, and is no other pickle ever followed?"""

import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.lib import format as npy

from mmd.errors import InputRefused
from mmd_tools.prepare import prepare
from mmd_tools.prepare_motion import CHANNELS, NAME, STEPS, read_motion
from mmd_tools.recipe import Recipe
from mmd_tools.recipe_check import load_recipe
from mmd_tools.takes import SPLITS, Takes, anchor_order, split_by_person
from mmd_tools.train_data import part, read_prepared

RECIPE = Path(__file__).parents[2] / "artifacts" / "motion" / "recipe.toml"


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE)


def write_motion(folder: Path, *, people: int = 3, windows: int = 12) -> None:
    """Write a file like seglearn's: each person does each exercise once, `windows` windows and a rest long."""
    rng = np.random.default_rng(0)
    subjects, labels = np.repeat(np.arange(1, people + 1), 7), np.tile(np.arange(7), people)
    held = {
        "X": [rng.normal(size=(windows * STEPS + 17, CHANNELS)) for _ in subjects],
        "y": labels,
        "subject": subjects,
        "y_labels": ["PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"],
    }
    np.save(folder / NAME, np.array(held, dtype=object), allow_pickle=True)


def test_recordings_become_windows_that_do_not_overlap(tmp_path: Path, recipe: Recipe) -> None:
    write_motion(tmp_path)
    held = np.load(tmp_path / NAME, allow_pickle=True).item()
    samples = read_motion(tmp_path, recipe)
    assert samples.inputs.shape == (3 * 7 * 12, CHANNELS, 1, STEPS)
    first = held["X"][0][:STEPS].T.astype(np.float32)
    assert (samples.people[0], samples.labels[0], samples.takes[0]) == ("person 01", 0, 0)
    np.testing.assert_array_equal(samples.inputs[0, :, 0], first)


def test_a_stranger_is_in_no_other_part(tmp_path: Path, recipe: Recipe) -> None:
    write_motion(tmp_path)
    out, anchor = tmp_path / "motion.npz", tmp_path / "anchor.npz"
    given = ["--data", tmp_path, "--recipe", RECIPE, "--stranger", "person 02", "--out", out, "--anchor", anchor]
    ran = CliRunner().invoke(prepare, ["motion", *map(str, given)], catch_exceptions=False)
    assert ran.exit_code == 0
    arrays = read_prepared(out)
    assert len(part(arrays, "strangers").labels) == 7 * 12
    strangers = {row.tobytes() for row in part(arrays, "strangers").inputs}
    with np.load(anchor) as held:
        assert len(held["labels"]) > 20
        assert not strangers & {row.tobytes() for row in held["inputs"]}


def test_of_fifty_takes_ten_are_anchor_six_validate_and_thirty_four_train() -> None:
    takes = Takes.ordered(np.arange(200.0)[:, None], np.tile(np.arange(2), 100), np.repeat(np.array(["a", "b"]), 100))
    split = split_by_person(takes, "b")
    for number, (name, first, last) in enumerate([("train", 16, 49), ("validation", 10, 15), ("anchor", 0, 9)]):
        assert SPLITS[number] == name
        of_part = np.sort(takes.takes[split == number])
        assert of_part.tolist() == [take for take in range(first, last + 1) for _ in range(2)]


def test_the_gates_half_of_the_anchor_set_was_never_trained_on_and_is_as_large_as_the_other() -> None:
    takes = Takes.ordered(np.arange(60.0)[:, None], np.arange(60) % 3, np.repeat(np.array(["a", "b"]), 30))
    split = split_by_person(takes, "b")
    order = anchor_order(takes, split)
    replay, gate = order[0::2], order[1::2]
    assert len(replay) == len(gate) == 3 * (1 + 2), "one odd take of two, and two of validation, of three classes"
    assert not {*replay} & {*gate}
    assert {SPLITS[number] for number in split[gate]} == {"anchor", "validation"}
    assert {SPLITS[number] for number in split[replay]} == {"anchor", "train"}


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("followed",)


@pytest.mark.parametrize("damage", ["evil", "cut", "text", "other", "missing"])
def test_a_file_that_is_not_seglearns_is_refused_in_one_line(
    damage: str, tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / NAME
    if damage == "evil":
        with path.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(_Evil(), file)
    elif damage == "cut":
        write_motion(tmp_path)
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "text":
        path.write_text("no array")
    elif damage == "other":
        np.save(path, np.array({"X": [], "y": np.zeros(0)}, dtype=object), allow_pickle=True)
    with pytest.raises(InputRefused, match=r"seglearn 1\.2\.5") as refusal:
        read_motion(tmp_path, recipe)
    assert "\n" not in str(refusal.value)
    assert "followed" not in capsys.readouterr().out
