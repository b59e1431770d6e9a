"""Does the daemon know how many samples there are without asking the store every second?"""

import logging
from pathlib import Path
from unittest import mock

import pytest
from tests.support import call_mmd, initialised_state, write_class_folders

from mmd.conditions import Instant
from mmd.layout import StateDir
from mmd.supervisor import stock
from mmd.supervisor.stock import NO_SAMPLES, Stock


def at(monotonic: float) -> Instant:
    return Instant(wall=1e9, monotonic=monotonic)


def ingest(state: Path, pictures: Path) -> None:
    assert call_mmd("ingest", pictures, state=state).code == 0


def test_a_state_folder_without_a_store_has_no_samples(tmp_path: Path) -> None:
    assert Stock(StateDir(tmp_path)).counts(at(0)) == NO_SAMPLES


def test_the_store_is_opened_again_only_after_it_changed(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    counted = Stock(StateDir(state))
    with mock.patch.object(stock, "count_samples", wraps=stock.count_samples) as count:
        assert counted.counts(at(0)).total == 0
        counted.counts(at(1))
        opened_before = count.call_count
        counted.counts(at(2))
        assert count.call_count == opened_before
        ingest(state, write_class_folders(tmp_path / "pictures", {"cat": 3}))
        assert counted.counts(at(3)).total == 3


def test_growth_is_noticed_and_what_was_there_before_is_none(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    ingest(state, write_class_folders(tmp_path / "pictures", {"cat": 2}))
    counted = Stock(StateDir(state))
    counted.counts(at(1))
    assert counted.grew_at is None
    ingest(state, write_class_folders(tmp_path / "more", {"cat": 2, "dog": 2}))
    counted.counts(at(9))
    assert counted.grew_at == 9


def test_a_damaged_store_is_named_and_the_last_counts_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = StateDir(initialised_state(tmp_path))
    ingest(state.root, write_class_folders(tmp_path / "pictures", {"cat": 2}))
    counted = Stock(state)
    counted.counts(at(0))
    state.samples_db.write_bytes(b"no database" * 1000)
    with caplog.at_level(logging.WARNING):
        assert counted.counts(at(1)).total == 2
    assert "samples.db" in caplog.text
