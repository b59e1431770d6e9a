"""Does `mmd label` change one sample, and refuse what it cannot know?"""

from pathlib import Path

import pytest
from tests.support import call_mmd, initialised_state, write_class_folders

from mmd.samples.store import SampleStore


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = initialised_state(tmp_path)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 30}), state=state)
    return state


def first(state: Path) -> tuple[str, str | None]:
    with SampleStore(state / "samples.db") as store:
        record = next(store.records())
        return record.id, record.label


def test_the_beginning_of_an_id_is_enough(state: Path) -> None:
    identifier, _ = first(state)
    ran = call_mmd("label", identifier[:10], "dog", state=state)
    assert (ran.code, ran.out) == (0, f"{identifier[:12]} is `dog` now (was `cat`).\n")
    assert first(state) == (identifier, "dog")


def test_an_ambiguous_id_is_refused(state: Path) -> None:
    with SampleStore(state / "samples.db") as store:
        starts = [record.id[0] for record in store.records()]
    ambiguous = next(digit for digit in starts if starts.count(digit) > 1)
    ran = call_mmd("label", ambiguous, "dog", state=state)
    assert (ran.code, len(ran.error_lines)) == (3, 1)
    assert "Several" in ran.err


def test_an_unknown_id_is_refused(state: Path) -> None:
    ran = call_mmd("label", "zzz", "dog", state=state)
    assert (ran.code, len(ran.error_lines)) == (3, 1)
    assert "mmd samples" in ran.err


def test_an_unknown_label_is_refused_and_changes_nothing(state: Path) -> None:
    identifier, _ = first(state)
    ran = call_mmd("label", identifier, "dgo", state=state)
    assert (ran.code, len(ran.error_lines)) == (3, 1)
    assert "did you mean `dog`" in ran.err
    assert first(state) == (identifier, "cat")
