"""Is the shipped set whole, small, as its recipe says, and is its owner a stranger whom the Mentor reads better?"""

import shlex
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

from mmd.artifact import shipped
from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.shipped import shipped_owner, shipped_set
from mmd.errors import ArtifactRefused
from mmd_tools.cli import cli
from mmd_tools.nets import build_net, parameter_count
from mmd_tools.recipe import Recipe
from mmd_tools.recipe_check import load_recipe
from mmd_tools.train_score import Scorer
from mmd_tools.verify import verify

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "artifacts" / "digits"
LARGEST_SET_BYTES = 4 * 1024 * 1024
ROLES = ("mentor", "mentee")


@pytest.fixture(scope="module")
def digits() -> ArtifactSet:
    return open_set(shipped_set())


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(DIGITS / "recipe.toml")


@pytest.fixture(scope="module")
def owner() -> tuple[np.ndarray, np.ndarray]:
    """Return the owner's images [n, 1, 28, 28] and labels [n]."""
    paths = sorted(shipped_owner().glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(path))[None] for path in paths])
    return images, np.array([int(path.parent.name) for path in paths])


def _scorer(digits: ArtifactSet, recipe: Recipe, role: str) -> Scorer:
    name = digits.manifest.graphs.mentor if role == "mentor" else digits.manifest.graphs.inference
    return Scorer(digits.path(name), recipe.input)


def test_the_checkout_ships_what_lies_in_artifacts() -> None:
    assert shipped_set() == DIGITS / "set"
    assert shipped_owner() == DIGITS / "owner"


def test_an_installation_without_a_set_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "_SHIPPED", tmp_path)
    with pytest.raises(ArtifactRefused, match="carries no artifact set"):
        shipped_set()
    with pytest.raises(ArtifactRefused, match="carries no writer's digits"):
        shipped_owner()


def test_the_package_carries_every_file_of_the_set_and_of_the_owner() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mmd"]
    carried = {path.resolve() for pattern in patterns for path in (ROOT / "daemon" / "mmd").glob(pattern)}
    files = {path for part in ("set", "owner") for path in (DIGITS / part).rglob("*") if path.is_file()}
    assert files
    assert files <= carried


def test_the_set_passes_every_check() -> None:
    assert [check for check in verify(shipped_set()) if not check.passed] == []


def test_the_set_is_smaller_than_four_megabytes_and_holds_no_file_that_the_manifest_does_not_name(
    digits: ArtifactSet,
) -> None:
    files = [path for path in digits.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_SET_BYTES
    assert {path.name for path in files} == {*digits.manifest.files, "manifest.json"}


def test_the_set_is_the_one_that_its_recipe_describes(digits: ArtifactSet, recipe: Recipe) -> None:
    manifest = digits.manifest
    assert (manifest.name, manifest.classes, manifest.licence) == (recipe.name, recipe.classes, recipe.licence)
    for field in ("epochs", "batch_size", "learning_rate", "replay"):
        assert getattr(manifest.training, field) == getattr(recipe.training, field)
    assert manifest.loss.temperature == recipe.loss.temperature
    assert manifest.loss.default_schedule == recipe.loss.default_schedule
    assert manifest.loss.labelled_schedule == recipe.loss.labelled_schedule == "independent"
    assert manifest.loss.hint_weights == tuple(probe.weight for probe in recipe.probe)
    assert manifest.loss.schedules == recipe.loss.all_schedules


@pytest.mark.parametrize("role", ROLES)
def test_both_networks_have_the_layers_of_the_recipe(digits: ArtifactSet, recipe: Recipe, role: str) -> None:
    name = digits.manifest.graphs.mentor if role == "mentor" else digits.manifest.graphs.inference
    shipped_net, described = onnx.load(digits.path(name)), build_net(recipe.nets[role])
    assert [node.op_type for node in shipped_net.graph.node] == [node.op_type for node in described.graph.node]
    shapes = [sorted(tuple(each.dims) for each in net.graph.initializer) for net in (shipped_net, described)]
    assert shapes[0] == shapes[1]
    assert parameter_count(described) <= 250_000


def test_every_command_of_the_recipe_is_one_that_exists(recipe: Recipe) -> None:
    asked = [shlex.split(command) for command in recipe.commands]
    tools = [words[1:] for words in asked if words[0] == "mmd-tools"]
    assert [words[0] for words in tools] == ["prepare", "train", "train", "fuse", "verify", "prepare", "prepare"]
    for words in tools:
        command = words[: 2 if words[0] == "prepare" else 1]
        told = CliRunner().invoke(cli, [*command, "--help"], obj={}).output
        assert all(word in told for word in words if word.startswith("--")), words


@pytest.mark.parametrize("role", ROLES)
def test_both_networks_read_the_anchor_set(digits: ArtifactSet, recipe: Recipe, role: str) -> None:
    for inputs, labels in (digits.replay_anchor(), digits.gate_anchor()):
        assert len(labels) >= 300
        assert set(labels.tolist()) == set(range(10))
        assert _scorer(digits, recipe, role).accuracy(inputs, labels) > 0.95


def test_the_owner_wrote_at_least_110_digits_of_every_class_and_each_once(owner: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = owner
    assert images.shape[1:] == (1, 28, 28)
    assert images.dtype == np.uint8
    assert len(images) >= 110
    assert set(labels.tolist()) == set(range(10))
    assert len({image.tobytes() for image in images}) == len(images)


def test_nothing_of_the_owner_is_in_the_anchor_set(digits: ArtifactSet, owner: tuple[np.ndarray, np.ndarray]) -> None:
    known = {image.tobytes() for image in digits.anchor()[0]}
    assert not any(image.tobytes() in known for image in owner[0])


def test_the_mentor_reads_the_owner_much_better_than_the_shipped_mentee(
    digits: ArtifactSet, recipe: Recipe, owner: tuple[np.ndarray, np.ndarray]
) -> None:
    mentor, mentee = (_scorer(digits, recipe, role).accuracy(*owner) for role in ROLES)
    assert mentor > mentee + 0.1
