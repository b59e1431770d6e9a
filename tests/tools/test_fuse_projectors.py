"""Do projectors start where they map the Mentee's features best onto the Mentor's?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd_tools.fuse import fuse
from mmd_tools.fuse.calibration import measure
from mmd_tools.fuse.network import Network, read_network
from mmd_tools.fuse.probes import Probe, projector_start, resolve_probe
from mmd_tools.fuse.projectors import fit_projectors
from mmd_tools.nets import NetRecipe, build_net, with_weights
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe
from mmd_tools.train_score import input_spec

SHAPE = (1, 8, 8)
MENTOR = NetRecipe(layers=("conv 6 3", "relu", "pool 2", "flatten", "fc 12", "relu", "fc 3"), input=SHAPE, seed=1)
MENTEE = NetRecipe(layers=("conv 4 3", "relu", "flatten", "fc 5", "relu", "fc 3"), input=SHAPE, seed=2)
PROBES = (ProbeRecipe(mentor="relu1", mentee="relu1"), ProbeRecipe(mentor="relu2", mentee="relu2"))
SPEC = input_spec(InputRecipe(scale=1 / 255), SHAPE)


def _replay(count: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def _networks(folder: Path, mentee: onnx.ModelProto | None = None) -> tuple[Network, Network]:
    onnx.save(build_net(MENTOR), folder / "mentor.onnx")
    onnx.save(mentee or build_net(MENTEE), folder / "mentee.onnx")
    return read_network(folder / "mentor.onnx", "mentor"), read_network(folder / "mentee.onnx", "mentee")


def _fit(folder: Path, mentee: onnx.ModelProto | None = None, count: int = 200) -> tuple[list[Probe], dict]:
    mentor, small = _networks(folder, mentee)
    probes = [resolve_probe(index, asked, mentor, small) for index, asked in enumerate(PROBES)]
    return probes, fit_projectors(probes, measure(mentor, small, probes, _replay(count), SPEC), seed=0)


def test_every_projector_has_the_shape_of_its_start(tmp_path: Path) -> None:
    probes, fitted = _fit(tmp_path)
    assert [(name, value.shape, value.dtype) for name, value in fitted.items()] == [
        (probe.projector, projector_start(probe, 0).shape, np.dtype(np.float32)) for probe in probes
    ]


def test_a_mentee_whose_features_are_the_mentors_mixed_gets_the_mixing_undone(tmp_path: Path) -> None:
    net = NetRecipe(layers=("fc 6", "fc 4", "fc 3"), input=(8,), seed=3)
    mentor = build_net(net)
    wide = NetRecipe(layers=("fc 9", "fc 3"), input=(8,), seed=4)
    mix = np.random.default_rng(1).standard_normal((9, 6)).astype(np.float32)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in mentor.graph.initializer}
    mentee = with_weights(build_net(wide), {"fc1.weight": mix @ weights["fc1.weight"]})
    onnx.save(mentor, tmp_path / "mentor.onnx")
    onnx.save(mentee, tmp_path / "mentee.onnx")
    big, small = read_network(tmp_path / "mentor.onnx", "mentor"), read_network(tmp_path / "mentee.onnx", "mentee")
    probe = resolve_probe(0, ProbeRecipe(mentor="fc1", mentee="fc1"), big, small)
    replay = np.random.default_rng(2).standard_normal((300, 8)).astype(np.float32)
    moments = measure(big, small, [probe], replay, input_spec(InputRecipe(kind="tensor"), (8,)))
    fitted = fit_projectors([probe], moments, seed=0)
    theirs = replay @ weights["fc1.weight"].T
    error = (theirs @ mix.T) @ fitted["projector.0.weight"] - theirs
    assert np.sqrt((error**2).mean()) < 0.15 * theirs.std()


def test_no_projector_near_the_fitted_one_maps_the_replay_samples_better(tmp_path: Path) -> None:
    probes, fitted = _fit(tmp_path)
    probe = probes[1]
    features = []
    for name, tensor in (("mentee", probe.mentee), ("mentor", probe.mentor)):
        model = onnx.load(tmp_path / f"{name}.onnx")
        model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, 1, None))
        session = onnx.reference.ReferenceEvaluator(model)
        features.append(session.run([tensor], {"input": _replay().astype(np.float32) / 255})[0].astype(np.float64))
    ours, theirs = features
    ridge = 1e-2 * (ours**2).sum() / ours.shape[1]

    def cost(weight: np.ndarray) -> float:
        return float(((ours @ weight - theirs) ** 2).sum() + ridge * (weight**2).sum())

    best = fitted[str(probe.projector)].astype(np.float64)
    rng = np.random.default_rng(3)
    assert all(cost(best) < cost(best + 0.01 * rng.standard_normal(best.shape)) for _ in range(20))
    assert cost(best) < cost(projector_start(probe, 0).astype(np.float64)) / 2


def test_a_mentee_without_any_activity_starts_from_seeded_numbers(tmp_path: Path) -> None:
    silent = with_weights(build_net(MENTEE), {"conv1.bias": np.full(4, -1e6, np.float32)})
    probes, fitted = _fit(tmp_path, silent)
    assert np.array_equal(fitted[str(probes[0].projector)], projector_start(probes[0], 0))


@NEEDS_TRAINING_BUILD
def test_the_set_starts_from_the_fit_on_the_even_rows_of_the_anchor_set_alone(tmp_path: Path) -> None:
    _networks(tmp_path)
    starts = []
    for changed in (slice(1, None, 2), slice(0, None, 2)):
        inputs, labels = _replay(40), np.arange(40) % 3
        inputs[changed] = 255 - inputs[changed]
        np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
        recipe = Recipe(
            name="x",
            licence="MIT",
            classes=("a", "b", "c"),
            anchor=str(tmp_path / "anchor.npz"),
            input=InputRecipe(scale=1 / 255),
            probe=PROBES,
        )
        fuse(tmp_path / "mentor.onnx", tmp_path / "mentee.onnx", recipe, tmp_path / "set", force=True)
        starts.append(load_file(tmp_path / "set" / "parameters.safetensors")["projector.1.weight"])
    mentor, mentee = _networks(tmp_path)
    probes = [resolve_probe(index, asked, mentor, mentee) for index, asked in enumerate(PROBES)]
    fitted = fit_projectors(probes, measure(mentor, mentee, probes, _replay(40)[0::2], SPEC), seed=0)
    assert np.allclose(starts[0], fitted["projector.1.weight"], atol=1e-5)
    assert not np.allclose(starts[1], starts[0], atol=1e-3)


def test_probes_without_a_projector_need_no_fit(tmp_path: Path) -> None:
    mentor, mentee = _networks(tmp_path)
    probe = resolve_probe(0, ProbeRecipe(mentor="relu1", mentee="relu1", loss="attention"), mentor, mentee)
    assert fit_projectors([probe], measure(mentor, mentee, [probe], _replay(), SPEC), seed=0) == {}


@pytest.mark.parametrize("count", [1, 33])
def test_a_small_anchor_set_still_gives_finite_projectors(tmp_path: Path, count: int) -> None:
    _, fitted = _fit(tmp_path, count=count)
    assert all(np.isfinite(value).all() for value in fitted.values())
