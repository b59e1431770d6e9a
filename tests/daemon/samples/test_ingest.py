"""Is every result true when it is given, and does one bad file spoil only itself?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import class_counts, write_class_folders, write_png

from mmd.config import SamplesConfig
from mmd.errors import MmdError
from mmd.samples.find import Refusal, find
from mmd.samples.form import SampleForm
from mmd.samples.ingest import BATCH_FILES, Taken, ingest
from mmd.samples.store import SampleStore

FORM = SampleForm("image", (1, 8, 8), ("cat", "dog"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.create(tmp_path / "samples.db", FORM, holdout_fraction=0.25) as opened:
        yield opened


def take(
    store: SampleStore, path: Path, label: str | None = None, config: SamplesConfig | None = None
) -> list[Taken | Refusal]:
    return list(ingest(store, find(path, FORM, label), config or SamplesConfig()))


def test_results_come_in_the_order_of_the_files(store: SampleStore, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 3, "dog": 2})
    (folder / "cat" / "001.png").write_text("text")
    np.save(folder / "cat" / "001a.npy", np.zeros((8, 8), np.uint8))
    results = take(store, folder)
    assert [result.path.name for result in results] == [
        "000.png",
        "001.png",
        "001a.npy",
        "002.png",
        "000.png",
        "001.png",
    ]
    assert [type(result) for result in results] == [Taken, Refusal, Taken, Taken, Taken, Taken]


def test_what_is_given_out_is_committed(store: SampleStore, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": BATCH_FILES + 20})
    with SampleStore(store.path) as other:
        known = 0
        for result in ingest(store, find(folder, FORM), SamplesConfig()):
            assert isinstance(result, Taken)
            known += len(result.added)
            assert other.counts().total >= known
        assert known == BATCH_FILES + 20


def test_one_bad_row_keeps_its_whole_file_out_and_nothing_else(store: SampleStore, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((10, 8, 8))
    rows[7, 0, 0] = np.nan
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "rows.npy", rows)
    write_png(tmp_path / "in" / "good.png", 1)
    good, bad = take(store, tmp_path / "in")
    assert isinstance(good, Taken)
    assert isinstance(bad, Refusal)
    assert "row 7" in bad.reason
    assert [record.source for record in store.records()] == ["good.png"]


def test_a_contradicting_label_keeps_its_whole_file_out(store: SampleStore, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=rows[2:], y=np.array(["cat"]))
    np.savez(tmp_path / "b.npz", x=rows, y=np.array(["dog", "dog", "dog"]))
    take(store, tmp_path / "a.npz")
    (result,) = take(store, tmp_path / "b.npz")
    assert isinstance(result, Refusal)
    assert "mmd label" in result.reason
    assert store.counts().total == 1


def test_rows_are_named_by_their_number(store: SampleStore, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8))
    take(store, tmp_path / "rows.npy")
    assert [record.source for record in store.records()] == ["rows.npy[0]", "rows.npy[1]"]


def test_the_label_that_is_given_goes_before_the_one_in_the_file(store: SampleStore, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8)
    np.savez(tmp_path / "rows.npz", x=rows, y=np.array(["cat", ""]))
    take(store, tmp_path / "rows.npz", "dog")
    assert class_counts(store) == {"dog": 2}


def test_the_same_picture_twice_in_one_go_is_stored_once(store: SampleStore, tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", 1)
    write_png(tmp_path / "in" / "b.png", 1)
    first, second = take(store, tmp_path / "in")
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    assert first.added[0].outcome.value == "stored"
    assert second.added[0].outcome.value == "already stored"
    assert second.added[0].stored_source == "a.png"


def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    SampleStore.create(tmp_path / "samples.db", FORM, holdout_fraction=0.25).close()
    folder = write_class_folders(tmp_path / "in", {"cat": 5})
    with SampleStore(tmp_path / "samples.db", quota_mib=200 / 2**20) as store:
        results = take(store, folder)
        assert [type(result) for result in results] == [Taken] * 3 + [Refusal] * 2
        assert "samples.quota_mib" in str(results[-1])
        assert store.counts().total == 3


def test_a_failing_disk_ends_it_after_what_was_committed(store: SampleStore, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 3 * BATCH_FILES})
    results = ingest(store, find(folder, FORM), SamplesConfig())
    given = [next(results) for _ in range(BATCH_FILES)]
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(MmdError, match="No space left"):
        list(results)
    assert len(given) == store.counts().total == BATCH_FILES


def test_the_pixel_limit_of_the_configuration_holds(store: SampleStore, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 1, size=(20, 20))
    (result,) = take(store, tmp_path / "a.png", config=SamplesConfig(max_pixels=399))
    assert isinstance(result, Refusal)
    assert "20 x 20 = 400 pixels" in result.reason
