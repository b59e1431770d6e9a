"""Are layers of every kind compared as FORMAT.md says: rows, sequences, tokens and maps, of the same width or not?"""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.tools import networks
from tests.tools.networks import Net, recipe, run, save

from mmd.artifact.load import open_set
from mmd.artifact.session import open_session
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.fuse.calibration import Moments
from mmd_tools.fuse.widths import assign, principal
from mmd_tools.recipe import ProbeRecipe, Recipe
from mmd_tools.verify import verify

Doubles = NDArray[np.float64]


def gallery(channels: int, seed: int) -> onnx.ModelProto:
    """One network with a layer of every kind: `map` 8x8, `half` 4x4, `tokens` 16, `classed` 17, `signal` 64, ..."""
    net = Net(seed)
    net.add("Tanh", net.conv("x", 1, channels), out="map")
    half = net.add("AveragePool", "map", kernel_shape=[2, 2], strides=[2, 2], out="half")
    flat = net.add("Reshape", half, net.constant([0, channels, 16], np.int64))
    turned = net.add("Transpose", flat, perm=[0, 2, 1])
    net.add("Tanh", net.add("MatMul", turned, net.weight(channels, channels)), out="tokens")
    padded = net.add("Pad", "tokens", net.constant([0, 1, 0, 0, 0, 0], np.int64))
    mixed = net.add("Add", net.add("MatMul", padded, net.weight(channels, channels)), net.weight(channels))
    net.add("Tanh", mixed, out="classed")
    line = net.add("Reshape", "x", net.constant([0, 1, 64], np.int64))
    net.add("Tanh", net.add("Conv", line, net.weight(channels, 1, 3), pads=[1, 1]), out="signal")
    for name, stride in (("signal16", 4), ("signal22", 3)):
        net.add("Tanh", net.add("Conv", "signal", net.weight(channels, channels, 1), strides=[stride]), out=name)
    net.add("ReduceMean", "tokens", axes=[1], keepdims=0, out="row")
    rows = ["row"]
    rows += [net.add("ReduceMean", name, axes=[2], keepdims=0) for name in ("signal16", "signal22")]
    rows.append(net.add("ReduceMean", "classed", axes=[1], keepdims=0))
    return net.model(net.gemm(net.add("Concat", *rows, axis=1), 4 * channels, 4))


def features(model: onnx.ModelProto, tensor: str, x: np.ndarray) -> Doubles:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return run(shown, {"x": x})[0].astype(np.float64)


def pooled(x: Doubles) -> Doubles:
    return x.reshape(*x.shape[:2], 4, 2, 4, 2).mean((3, 5))


def as_map(x: Doubles) -> Doubles:
    return x[:, -16:].transpose(0, 2, 1).reshape(len(x), -1, 4, 4)


def by_four(x: Doubles) -> Doubles:
    return x.reshape(*x.shape[:2], 16, 4).mean(3)


def resampled(x: Doubles) -> Doubles:
    places = (np.arange(22) + 0.5) * 64 / 22 - 0.5
    return np.apply_along_axis(lambda line: np.interp(places, np.arange(64), line), 2, x)


def same(x: Doubles) -> Doubles:
    return x


def mean(x: Doubles) -> Doubles:
    return x.mean(tuple(range(2, x.ndim)))


Change = Callable[[Doubles], Doubles]
PAIRS: list[tuple[str, str, Change, Change]] = [
    ("map", "half", pooled, same),
    ("half", "map", same, pooled),
    ("row", "map", same, mean),
    ("map", "row", mean, same),
    ("tokens", "row", lambda x: x.mean(1), same),
    ("tokens", "half", as_map, same),
    ("half", "classed", same, as_map),
    ("classed", "tokens", as_map, as_map),
    ("tokens", "tokens", same, same),
    ("map", "tokens", pooled, as_map),
    ("signal", "signal16", by_four, same),
    ("signal16", "signal", same, by_four),
    ("signal", "signal22", resampled, same),
    ("tokens", "signal16", lambda x: x.transpose(0, 2, 1), same),
    ("signal", "half", mean, mean),
]
WIDTHS = ("project", "select", "zero-pad", "pca")
KINDS = [("map", "map"), ("signal", "signal"), ("classed", "classed"), ("row", "row")]


def fused(folder: Path, channels: tuple[int, int], probes: list[ProbeRecipe]) -> Path:
    big, small = save(gallery(channels[0], 9), folder, "M.onnx"), save(gallery(channels[1], 1), folder, "S.onnx")
    fuse(big, small, recipe(folder, probe=tuple(probes)), folder / "set")
    return folder / "set"


def batch(count: int = 5) -> Batch:
    rng = np.random.default_rng(3)
    return Batch(rng.standard_normal((count, *networks.SHAPE)).astype(np.float32), np.arange(count) % 4)


def hints(folder: Path, count: int) -> tuple[float, ...]:
    weights = LossWeights(alpha=1.0, betas=(1.0,) * count, gamma=1.0, temperature=2.0)
    return open_engine(open_set(folder), variant="fused").losses(batch(), weights).hints


@networks.NEEDS_TRAINING_BUILD
def test_every_kind_of_layer_is_brought_to_the_places_of_every_other(tmp_path: Path) -> None:
    probes = [ProbeRecipe(mentor=mentor, mentee=mentee, loss="mse") for mentor, mentee, _, _ in PAIRS]
    folder = fused(tmp_path, (4, 4), probes)
    assert [check.name for check in verify(folder) if not check.passed] == []
    found = hints(folder, len(PAIRS))
    for (mentor, mentee, their_change, our_change), hint in zip(PAIRS, found, strict=True):
        theirs = their_change(features(gallery(4, 9), mentor, batch().inputs))
        ours = our_change(features(gallery(4, 1), mentee, batch().inputs))
        assert theirs.shape == ours.shape
        assert hint == pytest.approx(np.mean((ours - theirs) ** 2), rel=1e-4), (mentor, mentee)


@networks.NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("channels", [(6, 3), (3, 6), (4, 4)], ids=["mentor wider", "mentee wider", "level"])
def test_every_width_trains_alike_on_both_engines(channels: tuple[int, int], tmp_path: Path) -> None:
    widths = [width for width in WIDTHS if width != "pca" or channels[0] >= channels[1]]
    probes = [
        ProbeRecipe(mentor=mentor, mentee=mentee, width=width, weight=0.1)  # type: ignore[arg-type]
        for mentor, mentee in KINDS
        for width in widths
    ]
    folder = fused(tmp_path, channels, probes)
    assert [(check.name, check.detail) for check in verify(folder) if not check.passed] == []
    slope, expected = slope_of_hints(folder, len(probes))
    assert slope == pytest.approx(expected, rel=5e-3)


def slope_of_hints(folder: Path, count: int) -> tuple[float, float]:
    """The slope of the sum of all hints in a random direction: by central differences, and by the gradient."""
    engine = open_engine(open_set(folder), variant="fused")
    weights = LossWeights(alpha=0.0, betas=(1.0,) * count, gamma=0.0, temperature=2.0)
    _, gradients = engine.gradients(batch(), weights)
    start, rng = engine.state(), np.random.default_rng(8)
    direction = {name: rng.uniform(-1, 1, value.shape) for name, value in start.parameters.items()}
    ends = []
    for by in (0.005, -0.005):
        moved = {name: (v + by * direction[name]).astype(np.float32) for name, v in start.parameters.items()}
        engine.load(type(start)(0, moved, start.first_moments, start.second_moments))
        ends.append(engine.losses(batch(), weights).total)
    return (ends[0] - ends[1]) / 0.01, sum(float((gradients[name] * direction[name]).sum()) for name in gradients)


@networks.NEEDS_TRAINING_BUILD
def test_zero_padding_compares_the_missing_channels_with_nothing(tmp_path: Path) -> None:
    for channels in ((6, 3), (3, 6)):
        work = tmp_path / str(channels[0])
        work.mkdir()
        probe = ProbeRecipe(mentor="map", mentee="map", loss="mse", width="zero-pad")
        (hint,) = hints(fused(work, channels, [probe]), 1)
        theirs = features(gallery(channels[0], 9), "map", batch().inputs)
        ours = features(gallery(channels[1], 1), "map", batch().inputs)
        narrow, wide = sorted((ours, theirs), key=lambda x: x.shape[1])
        narrow = np.concatenate([narrow, np.zeros_like(wide)[:, narrow.shape[1] :]], axis=1)
        assert hint == pytest.approx(np.mean((narrow - wide) ** 2), rel=1e-4)


@networks.NEEDS_TRAINING_BUILD
def test_a_fixed_target_is_as_small_as_the_mentees_layer(tmp_path: Path) -> None:
    probes = [
        ProbeRecipe(mentor="map", mentee="half", width="pca"),
        ProbeRecipe(mentor="map", mentee="half", width="select"),
        ProbeRecipe(mentor="classed", mentee="half", width="pca"),
    ]
    folder = fused(tmp_path, (6, 3), probes)
    manifest = open_set(folder).manifest
    assert [probe.mentor for probe in manifest.probes] == ["target/0", "target/1", "target/2"]
    assert [probe.mentor_layer for probe in manifest.probes] == ["mentor/map", "mentor/map", "mentor/classed"]
    session = open_session(folder / "mentor.onnx")
    for probe in manifest.probes:
        (value,) = session.run([probe.mentor], {"x": batch().inputs})
        assert value.shape[1:] == probe.mentor_shape == (3, 4, 4)


@networks.NEEDS_TRAINING_BUILD
def test_the_selected_filters_are_those_that_are_the_mentees_own(tmp_path: Path) -> None:
    """A Mentor that has the Mentee's filters among its own, in another order, is compared in the Mentee's order."""
    small, big = gallery(3, 1), gallery(6, 9)
    tensors = {tensor.name: tensor for tensor in big.graph.initializer}
    order = [4, 0, 3]
    for own, other in zip(small.graph.initializer, big.graph.initializer, strict=True):
        if own.name in ("w0", "w1"):  # the kernel and bias of the first convolution
            value = onnx.numpy_helper.to_array(other).copy()
            value[order] = onnx.numpy_helper.to_array(own)
            tensors[own.name].CopyFrom(onnx.numpy_helper.from_array(value, own.name))
    probe = ProbeRecipe(mentor="map", mentee="map", loss="mse", width="select")
    fuse(
        save(big, tmp_path, "M.onnx"),
        save(small, tmp_path, "S.onnx"),
        recipe(tmp_path, probe=(probe,)),
        tmp_path / "set",
    )
    assert hints(tmp_path / "set", 1)[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (5, 5), (4, 7)])
def test_the_assignment_is_the_best_of_all(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[1])
    for _ in range(20):
        gain = rng.normal(size=shape)
        found = assign(gain)
        assert len(set(found)) == shape[0]
        best = max(sum(gain[row, col] for row, col in enumerate(p)) for p in permutations(range(shape[1]), shape[0]))
        assert sum(gain[row, column] for row, column in enumerate(found)) == pytest.approx(best)


def moments_of(ours: Doubles, theirs: Doubles) -> Moments:
    products = (ours.T @ ours, ours.T @ theirs, theirs.T @ theirs)
    return Moments(len(ours), ours.sum(0), theirs.sum(0), *products)


def test_principal_axes_keep_most_of_the_mentor_and_lie_nearest_to_the_mentee() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 8)) * 2 + 0.05 * rng.normal(size=(500, 8)) + 1
    ours = theirs[:, :3] + rng.normal(size=(500, 3)) + 5
    weight, offset = principal(moments_of(ours, theirs))
    target = theirs @ weight + offset
    assert np.allclose(weight.T @ weight, np.eye(3), atol=1e-8)
    assert target.var(0).sum() > 0.999 * theirs.var(0).sum()
    np.testing.assert_allclose(target.mean(0), ours.mean(0), atol=1e-8)
    distance = np.sum((target - ours) ** 2)
    for _ in range(20):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turned = (target - target.mean(0)) @ turn + target.mean(0)
        assert np.sum((turned - ours) ** 2) >= distance


def test_the_correlation_of_a_silent_channel_is_zero() -> None:
    rng = np.random.default_rng(0)
    ours = np.stack([np.ones(50), rng.normal(size=50)], axis=1)
    correlation = moments_of(ours, ours).correlation
    np.testing.assert_allclose(correlation, [[0, 0], [0, 1]], atol=1e-9)


EXPORTED = Path(__file__).parents[1] / "golden" / "exported"
TOKENS = {"torch_vit_script_17": "/Add_2_output_0", "torch_vit_dynamo_21": "add_153"}
MAP = "/Add_output_0"
"""Of torch_mobile_script_17, [8, 8, 8]; a vision transformer's layer is [17, 16]: a class token and 4 x 4 places."""


@networks.NEEDS_TRAINING_BUILD
@pytest.mark.parametrize(("role", "vit"), [("mentor", "torch_vit_script_17"), ("mentee", "torch_vit_dynamo_21")])
def test_a_transformer_and_a_convolutional_network_meet_on_the_map_of_the_tokens(
    role: str, vit: str, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(0).standard_normal((40, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=np.arange(40) % 4)
    layers = {"mentor": TOKENS[vit], "mentee": MAP} if role == "mentor" else {"mentor": MAP, "mentee": TOKENS[vit]}
    probes = [ProbeRecipe(**layers), ProbeRecipe(**layers, width="select", scope="layer")]
    asked = Recipe(
        name="tokens",
        licence="MIT",
        classes=networks.CLASSES,
        anchor=str(tmp_path / "anchor.npz"),
        probe=(*probes, ProbeRecipe(**layers, loss="attention")),
    )
    nets = [EXPORTED / f"{vit}.onnx", EXPORTED / "torch_mobile_script_17.onnx"]
    fuse(*(nets if role == "mentor" else nets[::-1]), asked, tmp_path / "set")
    assert [(check.name, check.detail) for check in verify(tmp_path / "set") if not check.passed] == []
    shapes = [probe.mentor_shape for probe in open_set(tmp_path / "set").manifest.probes]
    assert [shape[1:] for shape in shapes[:2]] == [(4, 4) if role == "mentee" else shape[1:] for shape in shapes[:2]]
    assert [len(shape) for shape in shapes] == [3, 3, 1]
