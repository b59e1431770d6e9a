"""Do the coefficients and the learning rate follow the plan?"""

import pytest
from tests.plans import round_plan

from mmd.artifact.manifest import Schedule
from mmd.training.schedule import learning_rate_at, weights_at


def test_the_first_and_the_last_step_have_the_first_and_the_last_point() -> None:
    plan = round_plan(
        steps=20, schedule=Schedule(alpha=((0.0, 0.1), (1.0, 0.9)), beta=((0.0, 0.4),), gamma=((0.0, 1.0),))
    )
    assert weights_at(plan, 0).alpha == pytest.approx(0.1)
    assert weights_at(plan, 19).alpha == pytest.approx(0.9)


def test_each_hint_has_its_own_weight() -> None:
    plan = round_plan(
        hint_weights=(1.0, 0.5), schedule=Schedule(alpha=((0, 1),), beta=((0.0, 0.4),), gamma=((0.0, 1.0),))
    )
    assert weights_at(plan, 3).betas == pytest.approx((0.4, 0.2))


def test_a_hint_may_have_a_schedule_of_its_own_within_the_schedule() -> None:
    plan = round_plan(
        steps=21,
        hint_weights=(1.0, 0.5),
        hint_schedules=((), ((0.0, 1.0), (0.5, 0.0))),
        schedule=Schedule(alpha=((0, 1),), beta=((0.0, 0.4),), gamma=((0.0, 1.0),)),
    )
    assert weights_at(plan, 0).betas == pytest.approx((0.4, 0.2))
    assert weights_at(plan, 5).betas == pytest.approx((0.4, 0.1))
    assert weights_at(plan, 15).betas == pytest.approx((0.4, 0.0))


def test_the_learning_rate_rises_to_its_highest_and_then_falls_to_a_twentieth() -> None:
    plan = round_plan(steps=100, warmup_steps=10, learning_rate=0.1)
    rates = [learning_rate_at(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.005, rel=0.01)


def test_a_round_without_warm_up_begins_with_the_highest_rate() -> None:
    assert learning_rate_at(round_plan(warmup_steps=0, learning_rate=0.1), 0) == pytest.approx(0.1)
