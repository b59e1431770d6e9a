"""Is every lowering rule right? Central differences, and parity with onnxruntime-training, over drawn shapes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.tools.lowering.cases import CASES, NEVER_IN_TRAINING_BUILD, NOT_IN_TRAINING_BUILD
from tests.tools.lowering.graphs import Built, build

from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.lowering.table import RULES

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)

EXAMPLES = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a failure names its draws; shrinking would build hundreds of graphs
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(NOT_IN_TRAINING_BUILD)))
@EXAMPLES
@given(data=st.data())
def test_a_lowered_graph_gives_the_gradients_of_onnxruntime_training(name: str, data: st.DataObject) -> None:
    built = build(CASES[name](data.draw))
    expected_loss, expected = built.gradients_of_training_build()
    loss, gradients = built.gradients(built.lowered_session())
    assert loss == pytest.approx(expected_loss, rel=2e-6, abs=2e-6)
    for parameter, gradient in gradients.items():
        scale = max(1e-3, float(np.abs(expected[parameter]).max()))
        np.testing.assert_allclose(gradient / scale, expected[parameter] / scale, atol=5e-6, err_msg=parameter)


@pytest.mark.parametrize("name", sorted(CASES))
@EXAMPLES
@given(data=st.data())
def test_a_lowered_graph_gives_the_slope_of_its_own_loss(name: str, data: st.DataObject) -> None:
    built = build(CASES[name](data.draw))
    session = built.lowered_session()
    _, gradients = built.gradients(session)
    for parameter, gradient in gradients.items():
        slope, expected = _slopes(built, session, parameter, gradient)
        assert slope == pytest.approx(expected, rel=2e-3, abs=2e-3 * float(np.linalg.norm(gradient)) + 1e-4), parameter


def _slopes(built: Built, session: object, parameter: str, gradient: np.ndarray) -> tuple[float, float]:
    """The slope along a random direction by central differences, and by the gradient."""
    value = built.parameters[parameter]
    direction = np.random.default_rng(3).uniform(-1, 1, value.shape).astype(np.float32)
    step = np.float32(0.01)
    above = built.loss(session, {parameter: value + step * direction})
    below = built.loss(session, {parameter: value - step * direction})
    return (above - below) / (2 * float(step)), float((gradient.astype(np.float64) * direction).sum())


@settings(EXAMPLES, max_examples=1)
@given(data=st.data())
def test_every_rule_has_a_case_of_differences_and_one_of_parity(data: st.DataObject) -> None:
    """A new rule needs nothing but a case, which both tests above take up; every case reaches a rule."""
    reached, compared = set(), set()
    for name, make in CASES.items():
        used = {node.op_type for node in build(make(data.draw)).training.graph.node} & set(RULES)
        assert used, f"{name} reaches no rule"
        reached |= used
        compared |= used if name not in NOT_IN_TRAINING_BUILD else set()
    assert reached == set(RULES)
    assert reached - compared == NEVER_IN_TRAINING_BUILD
