"""Does every optimizer do what its paper says, in the step graph and in the numpy that stands beside it?"""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from tests.daemon.training.sets import WEIGHTS, batches, make_set
from tests.tools.lowering.graphs import Built
from tests.tools.lowering.test_lower import small_net

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused
from mmd.training.engine import TrainingState
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.optimizer import apply_gradients, chosen_optimizer
from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.lowering import lower
from mmd_tools.lowering.optimizer import OPTIMIZERS

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)

Doubles = dict[str, NDArray[np.float64]]

SPECS = {
    "adamw": OptimizerSpec(),
    "sgd": OptimizerSpec(kind="sgd", weight_decay=0.0),
    "momentum": OptimizerSpec(kind="sgd", momentum=0.9),
    "nesterov": OptimizerSpec(kind="sgd", momentum=0.8, nesterov=True),
}
RATE, STEP = 0.01, 7


def formula(spec: OptimizerSpec, p: Doubles, m1: Doubles, m2: Doubles, g: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return parameters and moments after the step, in double precision, as PyTorch documents them."""
    length = math.sqrt(sum(float((value**2).sum()) for value in g.values()))
    factor = min(1.0, spec.clip_norm / (length + 1e-6)) if spec.clip_norm > 0 else 1.0
    after: tuple[Doubles, Doubles, Doubles] = ({}, {}, {})
    for name, value in p.items():
        gradient = g[name] * factor
        if spec.kind == "adamw":
            first = spec.beta1 * m1[name] + (1 - spec.beta1) * gradient
            second = spec.beta2 * m2[name] + (1 - spec.beta2) * gradient**2
            root = np.sqrt(second / (1 - spec.beta2**STEP)) + spec.epsilon
            moved = value * (1 - RATE * spec.weight_decay) - RATE * first / (1 - spec.beta1**STEP) / root
            after[2][name] = second
        else:
            gradient = gradient + spec.weight_decay * value
            first = spec.momentum * m1[name] + gradient
            moved = value - RATE * (gradient + spec.momentum * first if spec.nesterov else first)
        after[0][name], after[1][name] = moved, first
    return after


def graph_step(
    built: Built, spec: OptimizerSpec, m1: Doubles, m2: Doubles
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Run the lowered step; return its gradients, parameters and moments."""
    session = open_session(lower(built.training, list(built.parameters), spec).SerializeToString())
    scalars = {"learning_rate": RATE, "weight_decay": spec.weight_decay, "clip_norm": spec.clip_norm}
    feed = {**built.inputs, **built.parameters, "step": np.array(STEP, np.int64)}
    feed |= {name: np.array(value, np.float32) for name, value in scalars.items()}
    for end, moments in (("m1", m1), ("m2", m2)):
        feed |= {f"{name}.{end}": value.astype(np.float32) for name, value in moments.items()}
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    results = dict(zip(names, session.run(names, {n: v for n, v in feed.items() if n in wanted}), strict=True))
    ends = (".grad", ".next", ".m1.next", ".m2.next")
    gradients, parameters, first, second = (
        {name: results[name + end].astype(np.float64) for name in built.parameters if name + end in results}
        for end in ends
    )
    return gradients, parameters, first, second


def assert_close(found: Doubles, expected: Doubles) -> None:
    assert set(found) <= set(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_every_optimizer_of_the_recipe_has_a_rule() -> None:
    assert {spec.kind for spec in SPECS.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(
    decay=st.sampled_from([0.0, 0.01, 0.3]),
    clip=st.sampled_from([-1.0, 0.0, 0.5, 3.0, 1e6, math.inf]),
    seed=st.integers(0, 1000),
)
def test_a_step_is_the_formula_in_the_graph_and_in_numpy(name: str, decay: float, clip: float, seed: int) -> None:
    spec = chosen_optimizer(SPECS[name], weight_decay=decay, clip_norm=clip)
    built = small_net()
    rng = np.random.default_rng(seed)
    m1 = {key: rng.standard_normal(value.shape) * (spec.moments > 0) for key, value in built.parameters.items()}
    m2 = {key: rng.random(value.shape) for key, value in built.parameters.items()}
    gradients, *found = graph_step(built, spec, m1, m2)
    start = {key: value.astype(np.float64) for key, value in built.parameters.items()}
    expected = formula(spec, start, m1, m2, gradients)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)
    groups = [
        {key: value.astype(np.float32) for key, value in group.items()} if kept else {}
        for group, kept in ((start, True), (m1, spec.moments > 0), (m2, spec.moments > 1))
    ]
    by_hand = {key: value.astype(np.float32) for key, value in gradients.items()}
    apply_gradients(spec, TrainingState(STEP - 1, *groups), by_hand, RATE)
    for group, theirs in zip(groups, expected, strict=True):
        assert_close({key: value.astype(np.float64) for key, value in group.items()}, theirs)


def test_the_gradient_that_is_given_out_is_not_the_clipped_one() -> None:
    built = small_net()
    zeros = {key: np.zeros(value.shape) for key, value in built.parameters.items()}
    free, *_ = graph_step(built, OptimizerSpec(clip_norm=0.0), zeros, zeros)
    clipped, *_ = graph_step(built, OptimizerSpec(clip_norm=0.01), zeros, zeros)
    assert all((free[key] == clipped[key]).all() for key in free)


def test_gradients_of_zero_are_clipped_to_zero() -> None:
    spec = OptimizerSpec(kind="sgd", weight_decay=0.0, clip_norm=1.0)
    value = {"w": np.ones(3, np.float32)}
    apply_gradients(spec, TrainingState(0, value, {}, {}), {"w": np.zeros(3, np.float32)}, 1.0)
    assert (value["w"] == 1).all()


@pytest.fixture(scope="module", params=list(SPECS))
def artifact_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    return make_set(tmp_path_factory.mktemp("optimizers"), optimizer=SPECS[request.param])


@pytest.mark.parametrize(("decay", "clip"), [(None, None), (0.2, None), (None, 0.05), (0.0, 1.0)])
def test_both_engines_take_the_same_steps(artifact_set: ArtifactSet, decay: float | None, clip: float | None) -> None:
    spec = chosen_optimizer(artifact_set.manifest.optimizer, weight_decay=decay, clip_norm=clip)
    portable, training = (open_engine(artifact_set, name=name, optimizer=spec) for name in ENGINE_NAMES)
    for batch in batches(artifact_set, 20):
        ours, theirs = (engine.step(batch, WEIGHTS, 1e-3) for engine in (portable, training))
        assert ours.total == pytest.approx(theirs.total, rel=1e-4)
    for name, value in portable.state().parameters.items():
        np.testing.assert_allclose(value, training.state().parameters[name], atol=2e-5, err_msg=name)


def test_decay_and_clipping_change_the_step(artifact_set: ArtifactSet) -> None:
    (batch,) = batches(artifact_set, 1)
    ends = []
    for decay, clip in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.01)):
        spec = chosen_optimizer(artifact_set.manifest.optimizer, weight_decay=decay, clip_norm=clip)
        engine = open_engine(artifact_set, optimizer=spec)
        engine.step(batch, WEIGHTS, 0.1)
        engine.step(batch, WEIGHTS, 0.1)
        ends.append(np.concatenate([value.ravel() for value in engine.state().parameters.values()]))
    assert not np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_a_checkpoint_holds_no_more_moments_than_the_optimizer_keeps(artifact_set: ArtifactSet) -> None:
    for name in ENGINE_NAMES:
        state = open_engine(artifact_set, name=name).state()
        kept = [bool(state.first_moments), bool(state.second_moments)]
        assert sum(kept) == artifact_set.manifest.optimizer.moments


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    sets = []
    for number, name in enumerate(("sgd", "adamw")):
        folder = tmp_path / str(number)
        folder.mkdir()
        sets.append(make_set(folder, optimizer=SPECS[name]))
    plain, adam = (open_engine(artifact_set) for artifact_set in sets)
    with pytest.raises(ArtifactRefused, match=r"first moment .* is missing"):
        adam.load(plain.state())
    with pytest.raises(ArtifactRefused, match=r"first moment .* belongs to another"):
        plain.load(adam.state())


def early(artifact_set: ArtifactSet, folder: Path) -> ArtifactSet:
    """Return the set as it was fused before weight decay and clipping were inputs."""
    for name in artifact_set.manifest.files:
        (folder / name).write_bytes(artifact_set.path(name).read_bytes())
    path = folder / artifact_set.manifest.graphs.portable_cached
    model = onnx.load(path, load_external_data=False)
    constants = {"weight_decay": artifact_set.manifest.optimizer.weight_decay, "clip_norm": 0.0}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    onnx.save(model, path)
    return ArtifactSet(folder, artifact_set.manifest, artifact_set.sha256)


def test_a_set_that_was_fused_early_trains_as_before_and_refuses_other_numbers(
    artifact_set: ArtifactSet, tmp_path: Path
) -> None:
    old, spec = early(artifact_set, tmp_path), artifact_set.manifest.optimizer
    (batch,) = batches(artifact_set, 1)
    before, now = (open_engine(each).step(batch, WEIGHTS, 1e-3) for each in (old, artifact_set))
    assert before == now
    with pytest.raises(ArtifactRefused, match=r"training\.weight_decay"):
        open_engine(old, optimizer=chosen_optimizer(spec, weight_decay=0.5))
    with pytest.raises(ArtifactRefused, match=r"training\.clip_norm"):
        open_engine(old, optimizer=chosen_optimizer(spec, clip_norm=1.0))
