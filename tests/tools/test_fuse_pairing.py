"""Are the layers that say the same found, and shown, when a recipe does not name them?"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tools import networks
from tests.tools.networks import NETWORKS, Net, plain, recipe, save
from tests.tools.test_fuse_mapping import gallery

from mmd.artifact.load import open_set
from mmd.errors import UsageError
from mmd_tools.fuse import find_pairs, fuse
from mmd_tools.fuse.candidates import layers
from mmd_tools.fuse.network import read_network
from mmd_tools.fuse.pairing import _cka
from mmd_tools.recipe import AutoRecipe, Recipe

Doubles = NDArray[np.float64]


def deep(seed: int) -> object:
    """Three convolutions at falling sizes, and a hidden row."""
    net = Net(seed)
    x = net.add("Relu", net.conv("x", 1, 6), out="one")
    x = net.add("Relu", net.conv(x, 6, 8, strides=[2, 2]), out="two")
    x = net.add("Relu", net.conv(x, 8, 10, strides=[2, 2]), out="three")
    x = net.add("Relu", net.gemm(net.add("Flatten", x), 40, 12), out="four")
    return net.model(net.gemm(x, 12, 4))


def auto(folder: Path, samples: int = 60, **asked: object) -> Recipe:
    made = recipe(folder, pairs="auto", auto=AutoRecipe(**asked))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (samples, *networks.SHAPE)).astype(np.uint8)
    np.savez(folder / "anchor.npz", inputs=inputs, labels=np.arange(samples) % 4)
    return made


def written_out(one: Doubles, other: Doubles) -> float:
    """The unbiased estimate as a sum over places i, j, q, r that are all different."""
    n = len(one)
    off = ~np.eye(n, dtype=bool)
    k, l = np.where(off, one, 0), np.where(off, other, 0)  # noqa: E741
    total = pairs = 0.0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
                        pairs += 1
    return total / pairs


ENDS = {
    "plain": ("relu1",),
    "residual": ("relu2", "relu5", "sum"),
    "inception": ("relu1", "relu3", "conv4", "relu6", "conv8", "hidden"),
    "mobile": ("clip2", "hardswish5", "sigmoid8", "leakyrelu11"),
    "before_norm": ("relu3", "conv4"),
    "traced": ("relu1",),
    "old_style": ("relu2",),
}


def test_the_alignment_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(6, 3)), rng.normal(size=(6, 5))
    grams = one @ one.T, other @ other.T
    expected = written_out(*grams) / np.sqrt(written_out(grams[0], grams[0]) * written_out(grams[1], grams[1]))
    assert _cka(*grams) == pytest.approx(expected)


def test_the_alignment_sees_through_rotation_and_scale_and_not_through_noise() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 300))
    turned = 3 * one @ np.linalg.qr(rng.normal(size=(300, 300)))[0] + 7
    noise = rng.normal(size=(40, 300))
    assert _cka(one @ one.T, turned @ turned.T) == pytest.approx(1.0)
    assert abs(_cka(one @ one.T, noise @ noise.T)) < 0.2
    assert _cka(one @ one.T, np.ones((40, 40))) == 0.0


@pytest.mark.parametrize("measure", ["cka", "cosine"])
def test_a_mentee_like_its_mentor_is_paired_layer_by_layer(measure: str, tmp_path: Path) -> None:
    same = save(deep(3), tmp_path, "net.onnx")  # type: ignore[arg-type]
    ranking = find_pairs(same, same, auto(tmp_path, count=4, measure=measure))
    assert len(ranking) == 16
    chosen = {(pair.mentor, pair.mentee) for pair in ranking if pair.is_chosen}
    assert chosen == {(name, name) for name in ("one", "two", "three", "four")}
    assert all(getattr(pair, measure) == pytest.approx(1.0) for pair in ranking if pair.is_chosen)


def test_pairs_never_cross(tmp_path: Path) -> None:
    big, small = save(deep(9), tmp_path, "M.onnx"), save(gallery(4, 1), tmp_path, "S.onnx")  # type: ignore[arg-type]
    ranking = find_pairs(big, small, auto(tmp_path, count=8))
    order = layers(read_network(big, "mentor")), layers(read_network(small, "mentee"))
    places = sorted((order[0].index(p.mentor), order[1].index(p.mentee)) for p in ranking if p.is_chosen)
    assert len(places) >= 2
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(places))


def test_a_loss_that_needs_places_is_offered_maps_alone(tmp_path: Path) -> None:
    same = save(deep(3), tmp_path, "net.onnx")  # type: ignore[arg-type]
    ranking = find_pairs(same, same, auto(tmp_path, count=9, loss="attention"))
    assert {pair.mentee for pair in ranking if pair.is_chosen} == {"one", "two", "three"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_ends_where_its_activation_has_come_together(name: str, tmp_path: Path) -> None:
    assert layers(read_network(save(NETWORKS[name](), tmp_path, "net.onnx"), "mentee")) == ENDS[name]


@networks.NEEDS_TRAINING_BUILD
def test_found_pairs_are_in_the_set(tmp_path: Path) -> None:
    big, small = save(plain(6, seed=9), tmp_path, "M.onnx"), save(plain(3), tmp_path, "S.onnx")
    ranking = fuse(big, small, auto(tmp_path, width="pca", scope="layer", weight=0.3), tmp_path / "set")
    manifest = open_set(tmp_path / "set").manifest
    assert [(probe.mentor_layer, probe.mentee) for probe in manifest.probes] == [("mentor/relu1", "relu1")]
    assert (manifest.probes[0].width, manifest.probes[0].scope) == ("pca", "layer")
    assert manifest.loss.hint_weights == (0.3,)
    assert [pair.is_chosen for pair in ranking] == [True]


def test_too_few_samples_are_told(tmp_path: Path) -> None:
    same = save(plain(3), tmp_path, "net.onnx")
    with pytest.raises(UsageError, match="3 are too few, 4 the least"):
        find_pairs(same, same, auto(tmp_path, samples=6))


def test_nothing_that_can_be_compared_is_told(tmp_path: Path) -> None:
    net = Net(1)
    same = save(
        net.model(net.gemm(net.add("Relu", net.gemm(net.add("Flatten", "x"), 64, 5)), 5, 4)), tmp_path, "net.onnx"
    )
    with pytest.raises(UsageError, match="no two layers that the loss `attention` could compare"):
        find_pairs(same, same, auto(tmp_path, loss="attention"))


@networks.NEEDS_TRAINING_BUILD
def test_pairs_are_not_looked_for_without_a_mentor(tmp_path: Path) -> None:
    small = save(plain(3), tmp_path, "S.onnx")
    with pytest.raises(UsageError, match="there is no mentor"):
        fuse(None, small, auto(tmp_path), tmp_path / "set")


@networks.NEEDS_TRAINING_BUILD
def test_the_ranking_is_shown_as_a_table_and_as_json(tmp_path: Path) -> None:
    save(plain(6, seed=9), tmp_path, "M.onnx")
    save(plain(3), tmp_path, "S.onnx")
    auto(tmp_path)
    text = 'name = "t"\nlicence = "MIT"\nclasses = ["a", "b", "c", "d"]\nanchor = "anchor.npz"\npairs = "auto"\n'
    (tmp_path / "R.toml").write_text(text)
    files = ["--mentor", "M.onnx", "--mentee", "S.onnx", "--recipe", "R.toml"]

    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "mmd_tools.cli", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout

    heading, row = said("pairs", *files).splitlines()
    assert heading.split() == ["mentor", "shape", "mentee", "shape", "cka", "cosine"]
    assert row.split()[:4] == ["relu1", "6x8x8", "relu1", "3x8x8"]
    assert row.endswith("paired")
    (listed,) = json.loads(said("pairs", *files, "--json"))
    told = json.loads(said("fuse", *files, "--out", "set", "--json"))
    assert told == {"set": "set", "ranking": [listed]}
    assert listed["is_chosen"]
