"""Does a batch get the inputs of its rows, from the store and the cache, and hold no more than them?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.plans import round_plan
from tests.tiny import tiny_board, tiny_samples

from mmd.augmentation import Augmentation
from mmd.errors import StoreDamaged
from mmd.samples.row_cache import RowCache
from mmd.samples.store import SampleStore
from mmd.training.augment import view_of
from mmd.training.plan import RoundPlan
from mmd.training.rows import GuardedCache, StreamedInputs, all_rows

HOW = Augmentation(shift_pixels=1.0, contrast=0.5)
REPLAY, _ = tiny_samples(5, seed=6)


@pytest.fixture
def store(tmp_path: Path, tiny_set: Path) -> Iterator[SampleStore]:
    with tiny_board(tmp_path / "state", tiny_set).store() as opened:
        yield opened


@pytest.fixture
def plan(store: SampleStore) -> RoundPlan:
    return round_plan(sample_ids=tuple(store.training_ids()), views=3, augmentation=HOW, view_seed=4)


def read(inputs: StreamedInputs, plan: RoundPlan) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    rows = np.array(list(all_rows(len(plan.sample_ids), plan.views, len(REPLAY))), np.int64)
    return inputs.rows(rows[:, 0], rows[:, 1])


@pytest.mark.parametrize("is_cached", [False, True])
def test_every_row_is_its_sample_in_its_view(
    store: SampleStore, plan: RoundPlan, tmp_path: Path, is_cached: bool
) -> None:
    guarded = GuardedCache(RowCache(tmp_path / "cache.db", "scope"), store) if is_cached else None
    own, _ = store.load(plan.sample_ids)
    expected = [
        view_of(sample, identifier, view, HOW, 4)
        for view in range(3)
        for sample, identifier in zip(own, plan.sample_ids, strict=True)
    ]
    for _ in range(2):
        found = read(StreamedInputs(plan, store, REPLAY, guarded), plan)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, [*expected, *REPLAY])


def test_only_views_are_kept(store: SampleStore, plan: RoundPlan, tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "cache.db", "scope")
    read(StreamedInputs(plan, store, REPLAY, GuardedCache(cache, store)), plan)
    assert cache.count() == 2 * len(plan.sample_ids), "the sample itself is in the store"


def test_a_sample_that_was_forgotten_meanwhile_is_named(store: SampleStore, plan: RoundPlan) -> None:
    inputs = StreamedInputs(plan, store, REPLAY, None)
    store.forget([plan.sample_ids[3]])
    with pytest.raises(StoreDamaged, match=plan.sample_ids[3][:12]):
        read(inputs, plan)
