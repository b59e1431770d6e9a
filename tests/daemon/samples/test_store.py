"""Does the store keep what it was given, refuse what it must, and really forget?"""

import itertools
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support import class_counts

from mmd.errors import InputRefused, MmdError, StoreDamaged, UsageError
from mmd.samples.form import SampleForm, is_held_out, sample_id
from mmd.samples.records import Added, NewSample, Outcome
from mmd.samples.row_cache import CACHE_NAME, RowCache
from mmd.samples.store import SampleStore

FORM = SampleForm("image", (1, 2, 2), ("cat", "dog"))


def sample(number: int, label: str | None = None) -> NewSample:
    return NewSample(number.to_bytes(4, "big"), label, f"{number}.png")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.create(tmp_path / "samples.db", FORM, holdout_fraction=0.25) as opened:
        yield opened


def add(store: SampleStore, number: int, label: str | None = None) -> Added:
    (added,) = store.add([sample(number, label)])
    return added


def test_a_new_store_is_empty_and_remembers_what_it_is_for(store: SampleStore) -> None:
    counts = store.counts()
    assert (counts.total, counts.bytes, counts.new) == (0, 0, 0)
    with SampleStore(store.path) as again:
        assert again.form == FORM
        assert again.holdout_fraction == 0.25


def test_only_the_user_and_the_group_may_read_the_store(store: SampleStore) -> None:
    add(store, 1)
    for suffix in ("", "-wal", "-shm"):
        mode = Path(f"{store.path}{suffix}").stat().st_mode
        assert not stat.S_IMODE(mode) & stat.S_IRWXO


def test_every_commit_is_forced_to_disk(store: SampleStore) -> None:
    settings_in_force = [
        store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete")
    ]
    full = 2
    assert settings_in_force == ["wal", full, 1]


def test_creating_a_store_again_keeps_what_is_in_it(store: SampleStore) -> None:
    add(store, 1)
    with SampleStore.create(store.path, FORM, holdout_fraction=0.9) as again:
        assert again.counts().total == 1
        assert again.holdout_fraction == 0.25


def test_a_store_that_may_not_be_written_can_be_read(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, 1)
    store.close()
    monkeypatch.setattr("mmd.samples.database.os.access", lambda path, mode: False)
    with SampleStore(store.path) as reader:
        assert reader.counts().total == 1
        assert [path.name for path in store.path.parent.glob("samples.db*")] == ["samples.db"]
        with pytest.raises(MmdError, match="check its owner and permissions"):
            add(reader, 2)


def test_a_store_that_may_not_be_written_shows_what_its_writer_has_just_put_in(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 1)
    monkeypatch.setattr("mmd.samples.database.os.access", lambda path, mode: False)
    with SampleStore(store.path) as reader:
        assert reader.counts().total == 1


def test_a_sample_comes_back_as_it_was_stored(store: SampleStore) -> None:
    added = add(store, 0x01020304, "dog")
    inputs, labels = store.load([added.id])
    assert inputs.tolist() == [[[[1, 2], [3, 4]]]]
    assert inputs.dtype == np.uint8
    assert labels.tolist() == [1]


def test_floats_come_back_with_the_same_bits(tmp_path: Path) -> None:
    form = SampleForm("tensor", (3,), ("cat",))
    values = np.array([0.1, -1e-30, 3e38], np.float32)
    with SampleStore.create(tmp_path / "samples.db", form, holdout_fraction=0.0) as store:
        (added,) = store.add([NewSample(values.tobytes(), None, "x.npy")])
        inputs, labels = store.load([added.id])
    assert inputs.tobytes() == values.tobytes()
    assert labels.tolist() == [-1]


def test_samples_are_loaded_in_the_order_asked_for(store: SampleStore) -> None:
    ids = [added.id for added in store.add(sample(number) for number in range(1100))]
    wanted = ids[::-1]
    inputs, _ = store.load(wanted)
    numbers = [int.from_bytes(row.tobytes(), "big") for row in inputs]
    assert numbers == list(range(1100))[::-1]


def test_the_same_content_is_stored_once_and_said_so(store: SampleStore) -> None:
    first = add(store, 7, "cat")
    (second,) = store.add([NewSample(sample(7).content, "cat", "copy.png")])
    assert second.outcome is Outcome.ALREADY_STORED
    assert (second.id, second.stored_source) == (first.id, "7.png")
    assert store.counts().total == 1


def test_the_same_content_without_a_label_keeps_the_label_it_has(store: SampleStore) -> None:
    add(store, 7, "cat")
    assert add(store, 7).label == "cat"


def test_the_same_content_with_another_label_is_refused_with_the_way_out(store: SampleStore) -> None:
    added = add(store, 7, "cat")
    with pytest.raises(InputRefused, match=f"mmd label {added.id[:12]} dog"):
        add(store, 7, "dog")
    assert store.get(added.id).label == "cat"  # type: ignore[union-attr]


def test_a_label_that_comes_later_is_taken_over(store: SampleStore) -> None:
    add(store, 7)
    added = add(store, 7, "dog")
    assert added.outcome is Outcome.LABELLED
    assert store.counts().labelled == 1


def test_a_label_that_the_set_does_not_know_is_refused(store: SampleStore) -> None:
    with pytest.raises(InputRefused, match="cow"):
        add(store, 7, "cow")
    assert store.counts().total == 0


def test_content_of_the_wrong_size_is_refused(store: SampleStore) -> None:
    with pytest.raises(InputRefused, match="expected 4"):
        store.add([NewSample(b"abc", None, "x")])


def test_one_refused_sample_keeps_all_of_its_group_out(store: SampleStore) -> None:
    with pytest.raises(InputRefused):
        store.add([sample(1), sample(2, "cow"), sample(3)])
    assert store.counts().total == 0


def test_a_refused_group_inside_a_transaction_leaves_the_others(store: SampleStore) -> None:
    with store.transaction():
        add(store, 1)
        with pytest.raises(InputRefused):
            store.add([sample(2), sample(3, "cow")])
        add(store, 4)
    assert [record.source for record in store.records()] == ["1.png", "4.png"]


def test_an_exception_in_a_transaction_takes_everything_back(store: SampleStore) -> None:
    with pytest.raises(KeyError), store.transaction():
        add(store, 1)
        raise KeyError
    assert store.counts().total == 0


def test_the_store_refuses_more_than_its_quota(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    SampleStore.create(path, FORM, holdout_fraction=0.25).close()
    with SampleStore(path, quota_mib=10 / 2**20) as store:
        store.add([sample(1), sample(2)])
        with pytest.raises(InputRefused, match=r"samples.quota_mib = 9.5"):
            add(store, 3)
        assert add(store, 2).outcome is Outcome.ALREADY_STORED
        assert store.counts().bytes == 8


def test_the_split_follows_the_content_alone(store: SampleStore) -> None:
    store.add(sample(number, "cat" if number % 2 else None) for number in range(200))
    held = set(store.holdout_ids())
    trainable = set(store.training_ids())
    assert not held & trainable
    assert len(held) + len(trainable) == 200
    assert all(is_held_out(identifier, 0.25) for identifier in held)
    assert set(store.holdout_ids(labelled=True)) | set(store.holdout_ids(labelled=False)) == held


def test_ids_come_in_the_order_of_their_names_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    listed = []
    for name, numbers in (("one", range(50)), ("other", reversed(range(50)))):
        with SampleStore.create(tmp_path / name, FORM, holdout_fraction=0.25) as store:
            store.add(map(sample, numbers))
            listed.append(store.training_ids())
    assert listed[0] == listed[1] == sorted(listed[0])


def test_samples_are_new_until_a_round_saw_them_and_held_out_ones_never_are(store: SampleStore) -> None:
    store.add(map(sample, range(40)))
    ids = store.training_ids()
    assert store.counts().new == len(ids)
    store.mark_seen(3, ids[:5])
    assert store.counts().new == len(ids) - 5
    assert store.get(ids[0]).seen_in_round == 3  # type: ignore[union-attr]


def test_a_label_makes_a_seen_sample_new_again(store: SampleStore) -> None:
    store.add(map(sample, range(40)))
    ids = store.training_ids()
    store.mark_seen(1, ids)
    store.label(ids[0], "dog")
    assert store.counts().new == 1
    store.mark_seen(2, ids)
    store.label(ids[0], "dog")
    assert store.counts().new == 0


def test_all_samples_can_be_made_new(store: SampleStore) -> None:
    store.add(map(sample, range(40)))
    store.mark_seen(1, store.training_ids())
    store.mark_all_new()
    assert store.counts().new == len(store.training_ids())


def test_a_prefix_names_a_sample_when_only_one_has_it(store: SampleStore) -> None:
    ids = sorted(added.id for added in store.add(map(sample, range(40))))
    assert store.resolve(ids[0][:12]) == ids[0]
    assert store.resolve(ids[-1][:12].upper()) == ids[-1]
    with pytest.raises(InputRefused, match="Several"):
        store.resolve(next(a[0] for a, b in itertools.pairwise(ids) if a[0] == b[0]))
    for nothing in ("", "xyz", "0" * 64, "%"):
        with pytest.raises(InputRefused, match="No sample"):
            store.resolve(nothing)


def test_labelling_a_sample_that_is_not_there_is_refused(store: SampleStore) -> None:
    with pytest.raises(InputRefused, match="no sample"):
        store.label("0" * 64, "cat")


def test_forgotten_bytes_are_in_no_file_of_the_store(store: SampleStore) -> None:
    secret = NewSample(b"\xde\xad\xbe\xef", "cat", "secret-name.png")
    store.add(map(sample, range(300)))
    (added,) = store.add([secret])
    assert store.forget([added.id]) == 1
    for path in store.path.parent.iterdir():
        data = path.read_bytes()
        assert secret.content not in data, path
        assert b"secret-name" not in data, path
        assert added.id.encode() not in data, path
    assert store.counts().total == 300
    store.check()


def test_forgetting_what_is_not_there_removes_nothing(store: SampleStore) -> None:
    add(store, 1)
    assert store.forget(["0" * 64]) == 0
    assert store.counts().total == 1


def test_forgetting_says_so_when_another_reader_keeps_the_bytes_in_the_journal(
    store: SampleStore,
) -> None:
    added = add(store, 0xDEADBEEF)
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM samples").fetchall()
    store._connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(MmdError, match="are forgotten, but"):
        store.forget([added.id])
    assert store.counts().total == 0
    reader.close()
    SampleStore(store.path, check=True).close()
    assert not any(b"\xde\xad\xbe\xef" in path.read_bytes() for path in store.path.parent.iterdir())


def test_an_erasure_that_a_crash_cut_off_is_finished_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    SampleStore.create(path, FORM, holdout_fraction=0.25).close()
    with RowCache(tmp_path / CACHE_NAME, "scope") as cache, cache.writing():
        cache.write({b"\xab" * 32 + b"\0\1v": b"\xde\xad\xbe\xef, turned a little"})
    code = (
        "import os, sys; from pathlib import Path; from mmd.samples.records import NewSample\n"
        "from mmd.samples.store import SampleStore\n"
        "store = SampleStore(Path(sys.argv[1]))\n"
        "added = store.add([NewSample(b'\\xde\\xad\\xbe\\xef', None, 'x')])\n"
        "store._erase_traces = lambda: os._exit(9)\n"
        "store.forget([added[0].id])"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert any(b"\xde\xad\xbe\xef" in file.read_bytes() for file in tmp_path.iterdir())
    with SampleStore(path, check=True) as store:
        assert store.counts().total == 0
        assert not any(b"\xde\xad\xbe\xef" in file.read_bytes() for file in tmp_path.iterdir())


def test_the_token_changes_with_every_writer(store: SampleStore) -> None:
    before = store.changed()
    assert store.changed() == before
    add(store, 1)
    own = store.changed()
    assert own != before
    with SampleStore(store.path) as other:
        add(other, 2)
    assert store.changed() != own


def test_labelled_samples_are_counted_from_a_moment_on(store: SampleStore) -> None:
    store.add([sample(1, "cat")])
    (first,) = store.records()
    store.add([sample(2, "dog"), sample(3)])
    assert store.labelled_since(first.ingested - 1) == 2
    assert store.labelled_since(first.ingested) == 1
    assert store.labelled_since(first.ingested + 3600) == 0


def test_records_can_be_chosen(store: SampleStore) -> None:
    store.add([sample(1, "cat"), sample(2), sample(3, "dog")])
    assert [record.source for record in store.records(unlabelled=True)] == ["2.png"]
    assert [record.source for record in store.records(label="dog")] == ["3.png"]
    assert {record.id for record in store.records(holdout=True)} == set(store.holdout_ids())
    assert class_counts(store) == {"cat": 1, "dog": 1}


def test_another_set_of_the_same_form_may_use_the_store(store: SampleStore) -> None:
    add(store, 1, "dog")
    wider = SampleForm("image", (1, 2, 2), ("ant", "cat", "dog"))
    store.adopt(wider)
    with SampleStore(store.path) as again:
        assert again.form == wider
        assert again.load(again.training_ids() + again.holdout_ids())[1].tolist() == [2]


def test_another_set_that_does_not_fit_the_samples_is_refused(store: SampleStore) -> None:
    add(store, 1, "dog")
    with pytest.raises(InputRefused, match=r"1x2x2.*3x2x2"):
        store.adopt(SampleForm("image", (3, 2, 2), ("cat", "dog")))
    with pytest.raises(InputRefused, match="dog"):
        store.adopt(SampleForm("image", (1, 2, 2), ("cat",)))


def test_a_missing_store_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mmd init"):
        SampleStore(tmp_path / "samples.db")


def test_a_file_that_is_no_database_is_named_as_damage(tmp_path: Path) -> None:
    (tmp_path / "samples.db").write_text("hello " * 1000)
    with pytest.raises(StoreDamaged, match=r"samples.db"):
        SampleStore(tmp_path / "samples.db")


def test_an_empty_file_is_named_as_damage(tmp_path: Path) -> None:
    (tmp_path / "samples.db").touch()
    with pytest.raises(StoreDamaged, match="not a sample store"):
        SampleStore(tmp_path / "samples.db")


def test_another_program_s_database_is_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "samples.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreDamaged, match="not a sample store"):
        SampleStore(tmp_path / "samples.db")


def test_a_newer_schema_is_refused(store: SampleStore) -> None:
    store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreDamaged, match=r"version 99.*Upgrade"):
        SampleStore(store.path)


def test_a_damaged_page_is_found_by_the_check(store: SampleStore) -> None:
    store.add(map(sample, range(2000)))
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    data = bytearray(store.path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xa5" * 4096
    store.path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="damaged"):
        SampleStore(store.path, check=True)


def test_half_a_file_is_named_as_damage(store: SampleStore) -> None:
    store.add(map(sample, range(2000)))
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    os.truncate(store.path, store.path.stat().st_size // 2)
    with pytest.raises(StoreDamaged, match="damaged"):
        SampleStore(store.path, check=True)


def test_a_flipped_bit_in_a_sample_is_found_when_it_is_loaded(store: SampleStore) -> None:
    added = add(store, 1)
    store._connection.execute("UPDATE contents SET content = ?", (b"\0\0\0\2",))
    with pytest.raises(StoreDamaged, match=f"{added.id[:12]} fails its checksum"):
        store.load([added.id])


def test_a_sample_that_is_gone_is_named_when_it_is_loaded(store: SampleStore) -> None:
    with pytest.raises(StoreDamaged, match="not in the store"):
        store.load(["0" * 64])


def test_a_damaged_description_is_named(store: SampleStore) -> None:
    store._connection.execute("UPDATE meta SET value = 'nonsense' WHERE key = 'form'")
    with pytest.raises(StoreDamaged, match="description"):
        SampleStore(store.path)


def test_a_full_disk_loses_nothing_that_was_stored(store: SampleStore) -> None:
    add(store, 1)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(MmdError, match="No space left"):
        store.add(map(sample, range(1000)))
    assert store.counts().total == 1
    with SampleStore(store.path, check=True) as again:
        assert again.counts().total == 1


def test_a_store_that_somebody_holds_is_busy_not_damaged(store: SampleStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(MmdError, match="busy") as raised:
        add(store, 1)
    assert not isinstance(raised.value, StoreDamaged)
    other.close()


def test_counting_needs_neither_numpy_nor_pillow(store: SampleStore) -> None:
    add(store, 1)
    code = (
        "import sys; from pathlib import Path; from mmd.samples.store import SampleStore\n"
        "store = SampleStore(Path(sys.argv[1])); store.counts(); store.changed(); store.training_ids()\n"
        "print(sorted({'numpy', 'PIL', 'onnxruntime', 'watchdog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**32 - 1), max_size=30),
    more=st.lists(st.integers(0, 2**32 - 1), max_size=30),
)
def test_what_comes_later_never_moves_a_sample_across_the_split(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], more: list[int]
) -> None:
    path = tmp_path_factory.mktemp("store") / "samples.db"
    with SampleStore.create(path, FORM, holdout_fraction=0.5) as store:
        store.add(map(sample, numbers))
        held, trainable = set(store.holdout_ids()), set(store.training_ids())
        store.add(map(sample, more))
        assert held <= set(store.holdout_ids())
        assert trainable <= set(store.training_ids())


class StoreAgainstModel(RuleBasedStateMachine):
    """The store must do what a dictionary from content to label does."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = SampleStore.create(Path(self.folder.name) / "samples.db", FORM, holdout_fraction=0.3)
        self.expected: dict[str, str | None] = {}

    @rule(number=st.integers(0, 12), label=st.sampled_from([None, "cat", "dog"]))
    def add(self, number: int, label: str | None) -> None:
        identifier = sample_id(sample(number).content, FORM)
        known = self.expected.get(identifier)
        try:
            add(self.store, number, label)
        except InputRefused:
            assert known is not None
            assert label not in (None, known)
        else:
            self.expected[identifier] = known or label

    @rule(number=st.integers(0, 12))
    def forget(self, number: int) -> None:
        identifier = sample_id(sample(number).content, FORM)
        assert self.store.forget([identifier]) == (identifier in self.expected)
        self.expected.pop(identifier, None)

    @rule(number=st.integers(0, 12), label=st.sampled_from(["cat", "dog"]))
    def label(self, number: int, label: str) -> None:
        identifier = sample_id(sample(number).content, FORM)
        if identifier in self.expected:
            self.store.label(identifier, label)
            self.expected[identifier] = label

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SampleStore(self.store.path, check=True)

    @invariant()
    def agree(self) -> None:
        assert {record.id: record.label for record in self.store.records()} == self.expected
        counts = self.store.counts()
        assert counts.total == len(self.expected) == counts.labelled + counts.unlabelled
        assert counts.bytes == 4 * counts.total

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
