"""Does a recipe become trained weights, through the product's own engine, and only whole files?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.augmentation import Augmentation
from mmd.errors import InputRefused, TrainingFailed, UsageError
from mmd_tools.nets import NetRecipe, PretrainRecipe, build_net
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe
from mmd_tools.recipe_check import load_recipe
from mmd_tools.train import train
from mmd_tools.train_data import Part, part, read_prepared
from mmd_tools.train_run import Epoch, TrainRequest, learning_rate, train_network
from mmd_tools.train_score import Scorer

CLASSES = ("bar", "dash", "dot")
RECIPE = """\
name = "marks"
licence = "MIT"
classes = ["bar", "dash", "dot"]
anchor = "anchor.npz"

[input]
scale = 0.00392156862745098

[[probe]]
mentor = "relu1"
mentee = "relu1"
weight = 0.1

[nets.mentor]
input = [1, 8, 8]
layers = ["conv 6 3", "relu", "pool 2", "flatten", "fc 3"]

[nets.mentor.training]
epochs = 12
batch_size = 16
learning_rate = 0.02

[nets.mentor.augment]
shift_pixels = 1.0

[nets.mentee]
input = [1, 8, 8]
layers = ["conv 2 3", "relu", "pool 4", "flatten", "fc 3"]
training = { epochs = 6, batch_size = 16, learning_rate = 0.02, decay = "linear" }
"""


def _marks(count: int, seed: int) -> Part:
    """Return pictures of upright bars, level dashes and dots, each somewhere in the middle."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    inputs = rng.integers(0, 60, (count, 1, 8, 8)).astype(np.uint8)
    for image, label in zip(inputs, labels, strict=True):
        row, column = rng.integers(2, 6, 2)
        rows = slice(row - 2, row + 3) if label == 0 else slice(row, row + 1)
        columns = slice(column - 2, column + 3) if label == 1 else slice(column, column + 1)
        image[0, rows, columns] = 220
    return Part(inputs, labels.astype(np.int64))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with a recipe, its anchor set, and data."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    anchor = _marks(12, 1)
    np.savez(tmp_path / "anchor.npz", inputs=anchor.inputs, labels=anchor.labels)
    parts = {"train": _marks(320, 2), "validation": _marks(100, 3), "strangers": _marks(50, 4)}
    np.savez(
        tmp_path / "data.npz",
        inputs=np.concatenate([each.inputs for each in parts.values()]),
        labels=np.concatenate([each.labels for each in parts.values()]),
        split=np.repeat(np.arange(3), [len(each.labels) for each in parts.values()]),
        splits=np.array(list(parts)),
    )
    return tmp_path


def _request(folder: Path, *, mentor: Path | None = None, **training: object) -> TrainRequest:
    recipe = load_recipe(folder / "recipe.toml")
    net = folder / "start.onnx"
    net.write_bytes(build_net(recipe.nets["mentor"]).SerializeToString())
    data = read_prepared(folder / "data.npz")
    return TrainRequest(
        net=net,
        mentor=mentor,
        recipe=recipe,
        training=msgspec.structs.replace(recipe.nets["mentor"].training, **training),
        augment=Augmentation(),
        train=part(data, "train"),
        validation=part(data, "validation"),
    )


def _invoke(folder: Path, *more: str) -> str:
    arguments = ["--recipe", str(folder / "recipe.toml"), "--data", str(folder / "data.npz"), *more]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@NEEDS_TRAINING_BUILD
def test_mentor_and_then_mentee_are_trained_by_two_commands(workplace: Path) -> None:
    mentor, mentee = workplace / "mentor.onnx", workplace / "mentee.onnx"
    told = _invoke(workplace, "--net", "mentor", "--out", str(mentor))
    _invoke(workplace, "--net", "mentee", "--mentor", str(mentor), "--out", str(mentee))
    assert "epoch 12" in told
    assert "strangers, never trained or chosen on:" in told
    strangers = _marks(300, 9)
    spec = InputRecipe(scale=1 / 255)
    assert Scorer(mentor.read_bytes(), spec).accuracy(strangers.inputs, strangers.labels) > 0.8
    assert Scorer(mentee.read_bytes(), spec).accuracy(strangers.inputs, strangers.labels) > 0.5
    onnx.checker.check_model(mentee, full_check=True)


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("engine", ["portable", "ort_training"])
def test_equal_requests_end_in_equal_bits(workplace: Path, engine: str) -> None:
    written = []
    for name in ("one.onnx", "two.onnx"):
        _invoke(workplace, "--net", "mentor", "--epochs", "1", "--engine", engine, "--out", str(workplace / name))
        written.append((workplace / name).read_bytes())
    assert written[0] == written[1]


@NEEDS_TRAINING_BUILD
def test_training_goes_on_from_a_network_that_is_there(workplace: Path) -> None:
    first, second = workplace / "first.onnx", workplace / "second.onnx"
    _invoke(workplace, "--net", "mentor", "--epochs", "2", "--out", str(first))
    told = _invoke(workplace, "--net", "mentor", "--epochs", "1", "--start", str(first), "--out", str(second))
    assert "parameters" not in told
    validation = _marks(100, 3)
    score = Scorer(first.read_bytes(), InputRecipe(scale=1 / 255)).accuracy(validation.inputs, validation.labels)
    fresh = float(told.splitlines()[0].split()[-1])
    assert fresh > score - 0.05


@NEEDS_TRAINING_BUILD
def test_the_best_epoch_on_the_validation_writers_is_kept(workplace: Path) -> None:
    seen: list[Epoch] = []
    best = train_network(_request(workplace, epochs=4, learning_rate=0.05), on_epoch=seen.append)
    accuracies = [epoch.validation_accuracy for epoch in seen]
    assert best.validation_accuracy == max(accuracies)
    assert best.number == accuracies.index(max(accuracies)) + 1


@NEEDS_TRAINING_BUILD
def test_a_loss_that_is_not_finite_stops_the_training_and_writes_nothing(workplace: Path) -> None:
    request = _request(workplace, learning_rate=1e30)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        train_network(request)


@NEEDS_TRAINING_BUILD
def test_a_failed_command_leaves_the_old_file(workplace: Path) -> None:
    out = workplace / "mentor.onnx"
    out.write_bytes(b"old")
    recipe = workplace / "recipe.toml"
    recipe.write_text(RECIPE.replace("learning_rate = 0.02", "learning_rate = 1e30"))
    with pytest.raises(TrainingFailed):
        _invoke(workplace, "--net", "mentor", "--out", str(out))
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in workplace.iterdir()) == ["anchor.npz", "data.npz", "mentor.onnx", "recipe.toml"]


def test_a_net_or_schedule_that_is_not_there_is_named(workplace: Path) -> None:
    with pytest.raises(UsageError, match=r"no \[nets.mentr\]; did you mean `mentor`"):
        _invoke(workplace, "--net", "mentr", "--out", str(workplace / "x.onnx"))
    request = _request(workplace, mentor=workplace / "start.onnx", schedule="obediant")
    with pytest.raises(UsageError, match="did you mean `obedient`"):
        train_network(request)


def test_fewer_samples_than_a_batch_are_refused(workplace: Path) -> None:
    with pytest.raises(UsageError, match="less than one batch of 1000"):
        train_network(_request(workplace, batch_size=1000))


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_learning_rate_warms_up_once_and_then_only_falls_to_nothing(decay: str) -> None:
    training = PretrainRecipe(learning_rate=0.1, decay=decay)  # type: ignore[arg-type]
    rates = [learning_rate(training, step, 3000) for step in range(3000)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 1e-4


def test_an_unknown_key_of_a_net_is_named(workplace: Path) -> None:
    recipe = workplace / "recipe.toml"
    recipe.write_text(RECIPE.replace("shift_pixels", "shift_pixel"))
    with pytest.raises(UsageError, match=r"nets.mentor.augment.shift_pixel`; did you mean `nets.mentor.augment.shift_"):
        load_recipe(recipe)


@pytest.mark.parametrize("damage", ["missing", "text", "split", "lengths", "empty"])
def test_data_that_cannot_be_used_is_refused_with_what_makes_it(workplace: Path, damage: str) -> None:
    data = workplace / "data.npz"
    arrays = read_prepared(data)
    data.unlink()
    if damage == "text":
        data.write_text("digits")
    elif damage == "split":
        np.savez(data, **{name: array for name, array in arrays.items() if name != "split"})
    elif damage == "lengths":
        np.savez(data, **{**arrays, "labels": arrays["labels"][:-1]})
    elif damage == "empty":
        np.savez(data, **{**arrays, "split": np.full(len(arrays["split"]), 2)})
    with pytest.raises(InputRefused) as refused:
        part(read_prepared(data), "train")
    assert "\n" not in str(refused.value)


@NEEDS_TRAINING_BUILD
def test_the_probes_of_the_recipe_need_a_mentor_only_where_one_takes_part(workplace: Path) -> None:
    recipe = load_recipe(workplace / "recipe.toml")
    assert recipe.probe == (ProbeRecipe(mentor="relu1", mentee="relu1", weight=0.1),)
    assert isinstance(recipe, Recipe)
    assert isinstance(recipe.nets["mentee"], NetRecipe)
    train_network(_request(workplace, epochs=1))


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("changes", [{"pairs": "auto", "probe": ()}, {"spare_classes": 2}])
def test_a_mentor_is_trained_by_a_recipe_whose_pairs_or_spare_outputs_are_of_the_mentee(
    workplace: Path, changes: dict[str, Any]
) -> None:
    request = _request(workplace, epochs=1)
    asked = replace(request, recipe=msgspec.structs.replace(request.recipe, **changes))
    assert train_network(asked).model == train_network(request).model
