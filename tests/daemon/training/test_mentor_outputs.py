"""Is the Mentor asked once a row, and is what it said kept whole?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import SHAPE, tiny_board, tiny_samples

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.session import open_session
from mmd.artifact.shipped import shipped_set
from mmd.samples.row_cache import RowCache
from mmd.samples.store import SampleStore
from mmd.training.mentor_outputs import CachedMentor, SilentMentor, has_mentor, output_shapes
from mmd.training.rows import ArrayInputs, GuardedCache, Indices, all_rows

SAMPLES = np.array([3, 0, 39, 3], np.int64)
VIEWS = np.zeros(4, np.int64)


class Counting(ArrayInputs):
    """Counts how many rows the Mentor was shown."""

    asked = 0

    def rows(self, samples: Indices, views: Indices) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        self.asked += len(samples)
        return super().rows(samples, views)


@pytest.fixture
def artifact_set(tiny_set: Path) -> ArtifactSet:
    return open_set(tiny_set)


@pytest.fixture
def store(tmp_path: Path, tiny_set: Path) -> Iterator[SampleStore]:
    with tiny_board(tmp_path / "state", tiny_set).store() as opened:
        yield opened


class Asked:
    """A Mentor with a cache in `folder`, as a process that was just started has it."""

    def __init__(self, artifact_set: ArtifactSet, store: SampleStore, folder: Path, *, most_bytes: float = 1e9) -> None:
        self.ids = store.training_ids()[:40]
        inputs, _ = store.load(self.ids)
        self.inputs = Counting(inputs)
        self.cache = RowCache(folder / "cache.db", artifact_set.sha256, most_bytes=most_bytes)
        self.mentor = CachedMentor(artifact_set, self.inputs, self.ids, GuardedCache(self.cache, store))

    def say(self, samples: Indices = SAMPLES) -> dict[str, bytes]:
        said = self.mentor.rows(samples, np.zeros_like(samples))
        return {name: value.tobytes() for name, value in said.items()}


def test_what_is_kept_is_what_the_mentor_says(artifact_set: ArtifactSet) -> None:
    inputs, _ = tiny_samples(40, 5)
    rows = CachedMentor(artifact_set, ArrayInputs(inputs)).rows(SAMPLES, VIEWS)
    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor))
    names = list(output_shapes(manifest))
    fresh = session.run(names, {manifest.input.name: normalise(inputs[SAMPLES], manifest.input)})
    assert list(rows) == names
    for name, value in zip(names, fresh, strict=True):
        assert rows[name].shape == value.shape
        np.testing.assert_allclose(rows[name], value, rtol=1e-3, atol=1e-3)


def test_a_row_is_asked_about_once(artifact_set: ArtifactSet, store: SampleStore, tmp_path: Path) -> None:
    asked = Asked(artifact_set, store, tmp_path)
    rows = list(all_rows(40, 1, 0))
    assert asked.mentor.missing(rows) == 40
    asked.mentor.ask_all(rows)
    assert asked.inputs.asked == 40
    first = asked.say()
    again = Asked(artifact_set, store, tmp_path)
    assert again.mentor.missing(rows) == 0
    assert again.say() == first
    assert (asked.inputs.asked, again.inputs.asked) == (40, 0)


def test_a_damaged_entry_is_asked_about_again_to_the_same_bits(
    artifact_set: ArtifactSet, store: SampleStore, tmp_path: Path
) -> None:
    asked = Asked(artifact_set, store, tmp_path)
    asked.mentor.ask_all(all_rows(40, 1, 0))
    first = asked.say()
    asked.cache._connection.execute("UPDATE entries SET content = zeroblob(length(content))")
    again = Asked(artifact_set, store, tmp_path)
    assert again.say() == first
    assert again.inputs.asked == 3, "one of the four rows is there twice"


def test_a_damaged_file_costs_only_time(artifact_set: ArtifactSet, store: SampleStore, tmp_path: Path) -> None:
    asked = Asked(artifact_set, store, tmp_path)
    asked.mentor.ask_all(all_rows(40, 1, 0))
    first = asked.say()
    asked.cache.close()
    (tmp_path / "cache.db").write_bytes(b"no database" * 1000)
    again = Asked(artifact_set, store, tmp_path)
    assert again.say() == first
    assert Asked(artifact_set, store, tmp_path).mentor.missing(all_rows(40, 1, 0)) == 37


def test_a_row_gets_the_same_bits_whatever_is_asked_with_it() -> None:
    digits = open_set(shipped_set())
    inputs, _ = digits.replay_anchor()
    mentor = CachedMentor(digits, ArrayInputs(inputs))
    order = np.random.default_rng(0).permutation(50)
    together = mentor.rows(order, np.zeros(50, np.int64))
    for place in (0, 1, 30, 49):
        alone = mentor.rows(order[place : place + 1], VIEWS[:1])
        for output, value in alone.items():
            assert value[0].tobytes() == together[output][place].tobytes()


def test_without_room_everything_is_said_and_nothing_kept(
    artifact_set: ArtifactSet, store: SampleStore, tmp_path: Path
) -> None:
    full = Asked(artifact_set, store, tmp_path / "..", most_bytes=1)
    roomy = Asked(artifact_set, store, tmp_path)
    assert full.say() == roomy.say()
    assert (full.cache.count(), roomy.cache.count()) == (0, 3)


def test_nothing_is_kept_about_a_sample_that_was_forgotten_meanwhile(
    artifact_set: ArtifactSet, store: SampleStore, tmp_path: Path
) -> None:
    asked = Asked(artifact_set, store, tmp_path)
    store.forget(asked.ids[3:4])
    asked.say()
    assert asked.cache.count() == 2


def test_numbers_that_16_bits_cannot_hold_are_cut_off_not_infinite(artifact_set: ArtifactSet) -> None:
    inputs = np.full((1, *SHAPE), 3e9, np.float32)
    rows = CachedMentor(artifact_set, ArrayInputs(inputs)).rows(VIEWS[:1], VIEWS[:1])
    assert max(np.abs(value).max() for value in rows.values()) == 65504.0


def test_a_silent_mentor_gives_zeros_in_the_shapes_that_training_wants(artifact_set: ArtifactSet) -> None:
    rows = SilentMentor(output_shapes(artifact_set.manifest)).rows(SAMPLES, VIEWS)
    assert {name: value.shape[1:] for name, value in rows.items()} == output_shapes(artifact_set.manifest)
    assert not any(value.any() for value in rows.values())


def test_a_set_with_a_mentor_says_so(artifact_set: ArtifactSet) -> None:
    assert has_mentor(artifact_set.manifest)
