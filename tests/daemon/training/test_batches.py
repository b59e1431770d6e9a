"""Is every batch a pure function of seed and step?"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmd.training.batches import BatchOrder


def order(**changes: int) -> BatchOrder:
    values = {"seed": 1, "own": 30, "replay": 10, "batch_size": 8, "replay_per_batch": 2} | changes
    return BatchOrder(**values)


def test_a_batch_depends_on_nothing_that_was_drawn_before() -> None:
    forwards = [order().indices(step) for step in range(40)]
    backwards = [order().indices(step) for step in reversed(range(40))][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_another_seed_gives_another_order() -> None:
    assert not np.array_equal(order(seed=1).indices(0), order(seed=2).indices(0))


def test_every_sample_comes_once_before_any_comes_again() -> None:
    own = np.concatenate([order().indices(step)[:6] for step in range(10)])
    for epoch in (own[:30], own[30:]):
        assert sorted(epoch) == list(range(30))
    assert not np.array_equal(own[:30], own[30:])


def test_replay_fills_its_share_of_each_batch_from_behind_the_own_samples() -> None:
    for step in range(10):
        indices = order().indices(step)
        assert (indices[:6] < 30).all()
        assert ((indices[6:] >= 30) & (indices[6:] < 40)).all()


def test_without_replay_samples_the_batch_is_filled_with_own_ones() -> None:
    indices = order(replay=0).indices(0)
    assert len(indices) == 8
    assert (indices < 30).all()


@pytest.mark.parametrize("own", [1, 3, 8])
def test_fewer_samples_than_places_still_fill_the_batch(own: int) -> None:
    assert len(order(own=own).indices(5)) == 8


@given(st.integers(0, 2**32), st.integers(1, 50), st.integers(0, 20), st.integers(1, 32), st.integers(0, 10_000))
def test_indices_are_always_in_range(seed: int, own: int, replay: int, size: int, step: int) -> None:
    indices = order(seed=seed, own=own, replay=replay, batch_size=size, replay_per_batch=size // 2).indices(step)
    assert indices.shape == (size,)
    assert indices.min() >= 0
    assert indices.max() < own + replay


def test_every_sample_is_seen_in_each_view_before_it_is_seen_in_one_again() -> None:
    drawn = order(views=3, replay=0, replay_per_batch=0)
    samples = np.concatenate([drawn.indices(step) for step in range(12)])[:90]
    views = np.concatenate([drawn.views_of(step) for step in range(12)])[:90]
    assert set(zip(samples, views, strict=True)) == set(product(range(30), range(3)))


def test_an_epoch_has_as_many_samples_in_one_view_as_in_another() -> None:
    drawn = order(views=3, replay=0, replay_per_batch=0)
    epoch = np.concatenate([drawn.views_of(step) for step in range(4)])[:30]
    assert np.bincount(epoch).tolist() == [10, 10, 10]


def test_views_change_nothing_about_which_samples_are_drawn_and_replay_has_one_view() -> None:
    for step in range(10):
        assert order(views=4).indices(step).tolist() == order().indices(step).tolist()
        assert order(views=4).views_of(step)[6:].tolist() == [0, 0]
        assert order().views_of(step).tolist() == [0] * 8
