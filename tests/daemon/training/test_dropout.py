"""Does dropout silence the same values on every engine, whatever happens to the round?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plans import HandEngine, hand_start, round_data, round_plan
from tests.tools.networks import CLASSES, NEEDS_TRAINING_BUILD, Net, plain, recipe, run, save

from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.manifest import DropoutSpec
from mmd.errors import ArtifactRefused
from mmd.training.dropout import dropout_masks
from mmd.training.engine import Batch, LossWeights, StepLosses
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.round import Listener, RoundData, run_round
from mmd_tools.fuse import fuse
from mmd_tools.verify import verify

SPECS = (DropoutSpec(name="dropout.0", shape=(3, 4), ratio=0.25), DropoutSpec(name="dropout.1", shape=(5,), ratio=0.5))
WEIGHTS = LossWeights(alpha=1.0, betas=(), gamma=0.5, temperature=3.0)


def test_masks_are_a_function_of_seed_and_step() -> None:
    first, again = (dropout_masks(SPECS, seed=1, step=2, size=6) for _ in range(2))
    assert {name: value.shape for name, value in first.items()} == {"dropout.0": (6, 3, 4), "dropout.1": (6, 5)}
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    for other in (dropout_masks(SPECS, seed=2, step=2, size=6), dropout_masks(SPECS, seed=1, step=3, size=6)):
        assert all((first[name] != other[name]).any() for name in first)


@settings(max_examples=20, deadline=None)
@given(ratio=st.floats(0.0, 0.9), seed=st.integers(0, 2**31))
def test_a_mask_keeps_the_mean(ratio: float, seed: int) -> None:
    (mask,) = dropout_masks((DropoutSpec(name="m", shape=(500,), ratio=ratio),), seed, 0, 20).values()
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) <= {np.float32(0), np.float32(1) / np.float32(1 - ratio)}
    assert mask.mean() == pytest.approx(1.0, abs=6 * np.sqrt(ratio / (1 - ratio) / mask.size) + 1e-3)


class Watching(HandEngine):
    """Writes down the masks of every step, and is killed at one."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        self.kill_at = kill_at
        self.seen: dict[int, bytes] = {}

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        assert batch.masks is not None
        step = self.state().step
        if step == self.kill_at:
            raise KeyboardInterrupt
        self.seen[step] = b"".join(batch.masks[spec.name].tobytes() for spec in SPECS)
        return super().step(batch, weights, learning_rate)


def take(folder: Path, engine: Watching) -> None:
    data = round_data()
    with_dropout = RoundData(data.inputs, data.labels, data.own, data.mentor, data.input_spec, SPECS)
    listener = Listener(on_step=lambda *_: None, on_notice=lambda _: None, should_stop=lambda: False)
    folder.mkdir(exist_ok=True)
    run_round(round_plan(), folder, engine, with_dropout, hand_start(), listener)


def test_a_round_that_was_killed_drops_what_it_would_have_dropped(tmp_path: Path) -> None:
    alone, killed, resumed = Watching(), Watching(kill_at=12), Watching()
    take(tmp_path / "alone", alone)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path / "killed", killed)
    take(tmp_path / "killed", resumed)
    assert len(set(alone.seen.values())) == 20, "every step drops others"
    assert {**killed.seen, **resumed.seen} == alone.seen
    assert min(resumed.seen) == 10


def network() -> onnx.ModelProto:
    """Dropout on a map and on a row; the second one's input is used beside it too."""
    net = Net(7)
    x = net.add("Relu", net.conv("x", 1, 4, strides=[2, 2]))
    x = net.add("Dropout", x, net.constant(0.25, np.float32))
    x = net.add("Relu", net.gemm(net.add("Flatten", x), 64, 16))
    x = net.add("Add", x, net.add("Dropout", x))
    return net.model(net.gemm(x, 16, len(CLASSES)))


def fused(folder: Path, **changes: object) -> ArtifactSet:
    mentor, mentee = save(plain(), folder, "mentor.onnx"), save(network(), folder, "mentee.onnx")
    fuse(mentor, mentee, recipe(folder, **changes), folder / "set")
    return open_set(folder / "set")


@pytest.fixture(scope="module")
def artifact_set(tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    return fused(tmp_path_factory.mktemp("dropout"), dropout="keep")


def batch(artifact_set: ArtifactSet, step: int, *, size: int = 8, masked: bool = True) -> Batch:
    manifest = artifact_set.manifest
    generator = np.random.default_rng(step)
    return Batch(
        generator.standard_normal((size, *manifest.input.shape)).astype(np.float32),
        generator.integers(-1, len(CLASSES), size),
        {manifest.mentor_logits: generator.standard_normal((size, len(CLASSES))).astype(np.float32)},
        dropout_masks(manifest.dropout, 1, step, size) if masked else None,
    )


@NEEDS_TRAINING_BUILD
def test_the_set_says_what_is_dropped(artifact_set: ArtifactSet) -> None:
    dropped = [(spec.name, spec.shape, spec.ratio) for spec in artifact_set.manifest.dropout]
    assert dropped == [("dropout.0", (4, 4, 4), 0.25), ("dropout.1", (16,), 0.5)]
    assert [check for check in verify(artifact_set.folder) if not check.passed] == []


@NEEDS_TRAINING_BUILD
def test_both_engines_drop_the_same(artifact_set: ArtifactSet) -> None:
    portable, training = (open_engine(artifact_set, name=name) for name in ENGINE_NAMES)
    for step in range(20):
        given_batch = batch(artifact_set, step)
        expected = training.step(given_batch, WEIGHTS, 1e-3).total
        assert portable.step(given_batch, WEIGHTS, 1e-3).total == pytest.approx(expected, rel=1e-4)


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_dropped_value_has_no_gradient_and_changes_nothing(artifact_set: ArtifactSet, name: str) -> None:
    engine = open_engine(artifact_set, name=name)
    silenced = batch(artifact_set, 0)
    assert silenced.masks is not None
    nothing = {**silenced.masks, "dropout.0": np.zeros_like(silenced.masks["dropout.0"])}
    _, gradients = engine.gradients(Batch(silenced.inputs, silenced.labels, silenced.mentor, nothing), WEIGHTS)
    convolution = next(value for value in gradients.values() if value.ndim == 4)
    assert not convolution.any()
    whole = engine.losses(batch(artifact_set, 0, masked=False), WEIGHTS).total
    assert engine.losses(silenced, WEIGHTS).total != pytest.approx(whole, rel=1e-3)


@NEEDS_TRAINING_BUILD
def test_a_batch_in_parts_drops_what_the_whole_one_drops(artifact_set: ArtifactSet) -> None:
    _, whole = open_engine(artifact_set).gradients(batch(artifact_set, 0), WEIGHTS)
    _, parts = open_engine(artifact_set, micro_batch=3).gradients(batch(artifact_set, 0), WEIGHTS)
    for key, value in whole.items():
        np.testing.assert_allclose(parts[key], value, atol=1e-5 * float(np.abs(value).max()), err_msg=key)


@NEEDS_TRAINING_BUILD
def test_inference_drops_nothing(artifact_set: ArtifactSet) -> None:
    x = batch(artifact_set, 0).inputs
    model = onnx.load(artifact_set.path(artifact_set.manifest.graphs.inference))
    ours, again, theirs = (run(each, {"x": x})[0] for each in (model, model, network()))
    assert (ours == again).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@NEEDS_TRAINING_BUILD
def test_without_being_asked_for_dropout_is_gone(tmp_path: Path) -> None:
    plain_set = fused(tmp_path)
    assert plain_set.manifest.dropout == ()
    model = onnx.load(plain_set.path(plain_set.manifest.graphs.inference))
    assert "Dropout" not in {node.op_type for node in model.graph.node}


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize(("ratio", "message"), [(1.0, "drops a share of 1.0"), (-0.5, "drops a share of -0.5")])
def test_a_ratio_that_makes_no_sense_is_refused(tmp_path: Path, ratio: float, message: str) -> None:
    net = Net()
    x = net.add("Dropout", net.add("Flatten", net.conv("x", 1, 2)), net.constant(ratio, np.float32))
    mentee = save(net.model(net.gemm(x, 128, 4)), tmp_path, "mentee.onnx")
    with pytest.raises(ArtifactRefused, match=message):
        fuse(save(plain(), tmp_path, "mentor.onnx"), mentee, recipe(tmp_path, dropout="keep"), tmp_path / "set")
