"""Are points read as a line, and is a mixed schedule between its two at every step?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmd.artifact.manifest import Point, Schedule
from mmd.training.curves import interpolate, mixed


@pytest.mark.parametrize(
    ("progress", "expected"), [(-1.0, 1.0), (0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.75, 1.5), (1.0, 0.0), (2.0, 0.0)]
)
def test_coefficients_are_linear_between_points_and_constant_outside(progress: float, expected: float) -> None:
    assert interpolate(((0.0, 1.0), (0.5, 3.0), (1.0, 0.0)), progress) == pytest.approx(expected)


def test_two_points_at_one_place_are_a_jump() -> None:
    points = ((0.0, 1.0), (0.5, 1.0), (0.5, 0.0))
    assert interpolate(points, 0.499) == 1.0
    assert interpolate(points, 0.5) == 0.0


def test_a_term_without_points_is_off() -> None:
    assert interpolate((), 0.5) == 0.0


COEFFICIENTS = st.floats(0, 10)
LINES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 1.0]), COEFFICIENTS), max_size=5).map(
    lambda points: tuple(sorted(points, key=lambda point: point[0]))
)


@given(LINES, LINES, st.floats(0, 1))
def test_a_mixed_schedule_lies_between_its_two_at_every_progress(
    first: tuple[Point, ...], second: tuple[Point, ...], share: float
) -> None:
    line = mixed(Schedule(first, first, first), Schedule(second, second, second), share).gamma
    for step in range(41):
        wanted = (1 - share) * interpolate(first, step / 40) + share * interpolate(second, step / 40)
        assert interpolate(line, step / 40) == pytest.approx(wanted)


def test_a_mixed_schedule_jumps_where_one_of_its_two_does() -> None:
    jumping = ((0.0, 1.0), (0.5, 1.0), (0.5, 0.0))
    level = ((0.0, 2.0),)
    mixture = mixed(Schedule(alpha=jumping, beta=level, gamma=()), Schedule(alpha=level, beta=level, gamma=()), 0.5)
    assert mixture == Schedule(alpha=((0.0, 1.5), (0.5, 1.5), (0.5, 1.0)), beta=level, gamma=())
