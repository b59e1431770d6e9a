"""Is a sample named by its content, and is the split stable?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm, is_held_out, sample_id

IMAGE = SampleForm("image", (1, 2, 2), ("cat", "dog"))
TENSOR = SampleForm("tensor", (4,), ("cat", "dog"))


def test_form_survives_being_written_down() -> None:
    assert SampleForm.decode(IMAGE.encode()) == IMAGE


def test_content_size_counts_floats_as_four_bytes() -> None:
    assert (IMAGE.content_bytes, TENSOR.content_bytes) == (4, 16)


def test_equal_bytes_of_another_shape_are_another_sample() -> None:
    flat = SampleForm("image", (1, 1, 4), IMAGE.classes)
    assert sample_id(b"abcd", IMAGE) != sample_id(b"abcd", flat)


def test_classes_do_not_change_the_name_of_a_sample() -> None:
    assert sample_id(b"abcd", IMAGE) == sample_id(b"abcd", SampleForm("image", (1, 2, 2), ("other",)))


def test_the_split_of_known_ids_never_changes() -> None:
    """Golden: a change here would move samples between training and holdout on every board."""
    held = [number for number in range(40) if is_held_out(f"{number:064x}", 0.25)]
    assert held == [7, 11, 16, 18, 27, 28, 31, 34]


@given(st.binary(min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_only_adds_to_the_holdout(content: bytes, one: float, other: float) -> None:
    identifier = sample_id(content, IMAGE)
    small, large = sorted((one, other))
    assert is_held_out(identifier, large) or not is_held_out(identifier, small)


@given(st.binary(min_size=4, max_size=4))
def test_nothing_is_held_out_at_zero_and_everything_at_one(content: bytes) -> None:
    identifier = sample_id(content, IMAGE)
    assert not is_held_out(identifier, 0.0)
    assert is_held_out(identifier, 1.0)


def test_about_the_configured_share_is_held_out() -> None:
    held = sum(is_held_out(f"{number:064x}", 0.25) for number in range(4000))
    assert 900 < held < 1100


def test_an_unknown_label_is_refused_naming_the_nearest_known() -> None:
    with pytest.raises(InputRefused, match="did you mean `dog`"):
        IMAGE.require_class("Dgo")


def test_a_label_like_no_other_is_refused_listing_those_known() -> None:
    with pytest.raises(InputRefused, match="it knows cat, dog"):
        IMAGE.require_class("zzzzzz")


def test_a_long_list_of_classes_is_cut_short() -> None:
    many = SampleForm("image", (1, 2, 2), tuple(f"class {number}" for number in range(1000)))
    with pytest.raises(InputRefused, match=r"class 11, \.\.\.\.$"):
        many.require_class("zzzzzz")
