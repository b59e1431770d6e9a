"""Does a curve look like its values?"""

import math

from hypothesis import given
from hypothesis import strategies as st

from mmd.cli.plot import braille, thinned


def test_a_falling_line_goes_from_the_top_left_to_the_bottom_right() -> None:
    assert braille([3, 2, 1, 0], width=2, height=1) == ["⠑⢄"]


def test_equal_values_lie_in_the_middle() -> None:
    assert braille([1.0] * 4, width=2, height=1) == ["⠤⠤"]


def test_nothing_is_blank() -> None:
    assert braille([], width=3, height=2) == ["⠀⠀⠀", "⠀⠀⠀"]


def test_a_steep_curve_is_a_line_without_gaps() -> None:
    first, second = braille([0.0, 10.0], width=1, height=2)
    assert ord(first) & 0xF8  # the right column goes up
    assert (first, second) == ("⢸", "⡸")


def test_many_values_are_thinned_to_means_and_what_is_not_finite_is_left_out() -> None:
    assert thinned([1, 3, math.nan, 5, 7, math.inf], 2) == [2, 6]


@given(st.lists(st.floats(), max_size=500), st.integers(1, 40), st.integers(1, 6))
def test_whatever_the_values_the_picture_has_its_size(values: list[float], width: int, height: int) -> None:
    drawn = braille(values, width=width, height=height)
    assert [len(row) for row in drawn] == [width] * height
