"""Does `mmd-tools shrink` write the Mentee that fits the board, show what each costs, and refuse what cannot be?"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.support import call_tools
from tests.tools.networks import NEEDS_TRAINING_BUILD, save
from tests.tools.whole_nets import Layers

from mmd.artifact.load import open_set
from mmd.errors import UsageError
from mmd_tools.fuse.network import read_network
from mmd_tools.recipe_check import load_recipe
from mmd_tools.shrink.budget import FEEDING_MS
from mmd_tools.shrink.command import parse_bytes
from mmd_tools.train_data import part, read_prepared
from mmd_tools.train_score import Scorer
from mmd_tools.weigh import weigh

DIGITS = Path(__file__).parents[3] / "artifacts" / "digits" / "anchor.npz"
RECIPE = """
name = "digits"
licence = "MIT"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
anchor = "anchor.npz"
[input]
scale = 0.004
[loss]
default_schedule = "adamant"
"""


@pytest.fixture
def mentor(tmp_path: Path) -> Path:
    net = Layers(0)
    x = net.add("Relu", net.conv("x", 1, 16, 5, strides=[2, 2]))
    x = net.add("MaxPool", net.add("Relu", net.conv(x, 16, 16)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.gemm(net.add("Flatten", x), 16 * 49, 10)
    return save(net.model(x, shape=(1, 28, 28), classes=10), tmp_path, "mentor.onnx")


def digits(folder: Path) -> tuple[Path, Path]:
    with np.load(DIGITS) as archive:
        inputs, labels = archive["inputs"], archive["labels"]
    split = (np.arange(len(labels)) % 4 == 0).astype(np.uint8)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels, split=split, splits=["train", "validation"])
    np.savez(folder / "anchor.npz", inputs=inputs[:40], labels=labels[:40])
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "data.npz", folder / "recipe.toml"


@NEEDS_TRAINING_BUILD
def test_each_candidate_is_weighed_and_the_largest_that_fits_is_written(mentor: Path, tmp_path: Path) -> None:
    out = tmp_path / "mentee.onnx"
    ran = call_tools("shrink", mentor, "--width", 1, "--width", 0.5, "--resolution", 0.5, "--out", out, "--json")
    assert (ran.code, ran.err) == (0, "")
    wide, narrow = json.loads(ran.out)["candidates"]
    assert (wide["width"], narrow["width"], wide["resolution"]) == (1, 0.5, 0.5)
    assert narrow["parameters"] < 0.6 * wide["parameters"]
    assert narrow["step_bytes"] < wide["step_bytes"]
    assert narrow["step_ms"] > 0
    assert (wide["chosen"], narrow["chosen"]) == (True, False)
    assert read_network(out, "mentee").input_shape == (1, 28, 28)


@NEEDS_TRAINING_BUILD
def test_with_data_the_candidates_are_trained_under_the_mentor_and_judged(mentor: Path, tmp_path: Path) -> None:
    data, recipe = digits(tmp_path)
    out = tmp_path / "mentee.onnx"
    options = ["--data", data, "--recipe", recipe, "--by", "activations", "--width", 0.5, "--epochs", 6]
    ran = call_tools("shrink", mentor, *options, "--out", out, "--json")
    assert ran.code == 0
    (only,) = json.loads(ran.out)["candidates"]
    assert 0.3 < only["accuracy"] <= 1


@NEEDS_TRAINING_BUILD
def test_the_recipes_spare_outputs_are_added_so_that_the_mentee_fuses_with_it(mentor: Path, tmp_path: Path) -> None:
    data, recipe = digits(tmp_path)
    recipe.write_text("spare_classes = 2\n" + recipe.read_text())
    out = tmp_path / "mentee.onnx"
    ran = call_tools("shrink", mentor, "--data", data, "--recipe", recipe, "--width", 0.5, "--epochs", 1, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    fused = call_tools("fuse", "--mentor", mentor, "--mentee", out, "--recipe", recipe, "--out", tmp_path / "set")
    assert (fused.code, fused.err) == (0, "")
    manifest = open_set(tmp_path / "set").manifest
    assert (len(manifest.classes), manifest.spare_classes) == (10, 2)


@NEEDS_TRAINING_BUILD
def test_the_written_mentee_scores_weighs_and_steps_as_the_table_promised(mentor: Path, tmp_path: Path) -> None:
    data, recipe = digits(tmp_path)
    out = tmp_path / "mentee.onnx"
    options = ["--data", data, "--recipe", recipe, "--width", 0.5, "--width", 0.25, "--epochs", 2]
    ran = call_tools("shrink", mentor, *options, "--out", out, "--json")
    (chosen,) = [each for each in json.loads(ran.out)["candidates"] if each["chosen"]]
    asked = load_recipe(recipe)
    validation = part(read_prepared(data), "validation")
    assert Scorer(out, asked.input).accuracy(validation.inputs, validation.labels) == pytest.approx(chosen["accuracy"])
    again = weigh(out, batch=32, engines=("portable",))
    assert again.step_bytes["portable"] == chosen["step_bytes"]
    assert again.step_ms["portable"] == pytest.approx(chosen["step_ms"], rel=2)
    budget = json.loads(ran.out)["budget"]
    steps = budget["steps"] * (chosen["step_ms"] + FEEDING_MS)
    # 40 samples of everybody: half of them are replayed, half are for the gate.
    took = steps + (200 + 20) * budget["asking"]["ms"] + chosen["beside_ms"]
    assert chosen["round_minutes"] == pytest.approx(took / 60_000)


@NEEDS_TRAINING_BUILD
def test_a_budget_is_told_and_each_candidate_says_what_it_takes_too_much_of(mentor: Path, tmp_path: Path) -> None:
    options = ["--width", 1, "--width", 0.25, "--memory", "512MB", "--minutes", 5, "--out", tmp_path / "x.onnx"]
    ran = call_tools("shrink", mentor, *options)
    assert ran.code == 0
    assert "Budget: 488 MiB for the trainer and 5 minutes a round." in ran.out
    assert len([line for line in ran.out.splitlines() if line.rstrip().endswith("yes")]) == 2
    slow = call_tools("shrink", mentor, *options, "--slowdown", 1e6, "--memory", "1MB")
    assert "no: memory and time" in slow.out
    assert slow.code == 2


@NEEDS_TRAINING_BUILD
def test_a_board_that_is_too_small_gets_the_table_and_no_file(mentor: Path, tmp_path: Path) -> None:
    out = tmp_path / "mentee.onnx"
    ran = call_tools("shrink", mentor, "--width", 0.5, "--memory", "10 kB", "--out", out)
    assert ran.code == 2
    assert "no: memory" in ran.out
    assert "No candidate fits the budget" in ran.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x.npz"], "--data and --recipe go together"),
        (["--by", "activations"], "--by activations needs --data"),
        (["--memory", "lots"], "`lots` is no size"),
        (["--out", "nowhere/x.onnx"], "make it first"),
        (["--resolution", "0.3"], "A resolution of 0.3 does not fit"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: list[str], message: str, mentor: Path, tmp_path: Path) -> None:
    ran = call_tools("shrink", mentor, "--out", tmp_path / "x.onnx", *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.error_lines) == 1


def test_a_network_with_no_channel_and_no_block_to_spare_is_refused_instead_of_copied(tmp_path: Path) -> None:
    net = Layers(0)
    only = save(net.model(net.gemm(net.add("Flatten", "x"), 64, 4), shape=(1, 8, 8)), tmp_path, "only.onnx")
    for option in ("--width", "--depth"):
        ran = call_tools("shrink", only, option, 0.5, "--out", tmp_path / "x.onnx")
        assert (ran.code, len(ran.error_lines)) == (2, 1)
        assert f"{option} changes nothing" in ran.err


@pytest.mark.parametrize("option", ["--width", "--minutes", "--slowdown"])
def test_what_is_no_number_is_refused(option: str, mentor: Path, tmp_path: Path) -> None:
    ran = call_tools("shrink", mentor, option, "nan", "--out", tmp_path / "x.onnx")
    assert (ran.code, "nan is no number" in ran.err) == (2, True)


@NEEDS_TRAINING_BUILD
def test_the_frontier_is_drawn_where_matplotlib_is_installed_and_refused_where_it_is_not(
    mentor: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "frontier.png"
    ran = call_tools("shrink", mentor, "--width", 0.5, "--out", tmp_path / "x.onnx", "--plot", picture)
    if find_spec("matplotlib") is None:
        assert (ran.code, "needs matplotlib" in ran.err) == (2, True)
    else:
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("text", "size"), [("512MB", 512e6), ("0.5 GiB", 2**29), ("100", 100)])
def test_a_size_is_read_with_its_unit(text: str, size: float) -> None:
    assert parse_bytes(text) == size


def test_a_size_without_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="write 512MB"):
        parse_bytes("MB")
