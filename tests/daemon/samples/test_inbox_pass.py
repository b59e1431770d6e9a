"""Is the inbox emptied of what was stored, and is what was refused set aside with its reason?"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import class_counts, write_png

from mmd.config import SamplesConfig
from mmd.samples.find import Refusal
from mmd.samples.form import SampleForm
from mmd.samples.inbox_pass import InboxPass, is_settled
from mmd.samples.ingest import Taken
from mmd.samples.store import SampleStore

FORM = SampleForm("image", (1, 8, 8), ("cat", "dog"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.create(tmp_path / "samples.db", FORM, holdout_fraction=0.25) as opened:
        yield opened


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def aged(path: Path, seconds: float = 60) -> Path:
    """Make `path` look as if nobody had touched it for a while."""
    past = time.time() - seconds
    os.utime(path, (past, past), follow_symlinks=False)
    return path


def run(store: SampleStore, inbox: Path) -> tuple[list[Taken | Refusal], int]:
    one = InboxPass(store, inbox, SamplesConfig())
    return list(one), one.unsettled


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_is_stored_leaves_the_inbox_and_class_folders_stay(store: SampleStore, inbox: Path) -> None:
    aged(write_png(inbox / "cat" / "a.png", 1))
    aged(write_png(inbox / "b.png", 2))
    results, _ = run(store, inbox)
    assert len(results) == 2
    assert left_in(inbox) == []
    assert (inbox / "cat").is_dir()
    assert class_counts(store) == {"cat": 1}
    assert store.counts().unlabelled == 1


def test_what_is_stored_already_leaves_the_inbox_too(store: SampleStore, inbox: Path) -> None:
    for name in ("a.png", "b.png"):
        aged(write_png(inbox / name, 1))
        run(store, inbox)
    assert left_in(inbox) == []
    assert store.counts().total == 1


def test_what_is_refused_is_set_aside_with_the_reason(store: SampleStore, inbox: Path) -> None:
    (inbox / "cat").mkdir()
    (inbox / "cat" / "bad.png").write_text("text")
    aged(inbox / "cat" / "bad.png")
    (refused,), _ = run(store, inbox)
    assert isinstance(refused, Refusal)
    assert left_in(inbox) == [".refused/bad.png", ".refused/bad.png.reason.txt"]
    reason = (inbox / ".refused" / "bad.png.reason.txt").read_text()
    assert reason == f"cat/bad.png: {refused.reason}\n"
    assert run(store, inbox)[0] == []


def test_two_refused_files_of_one_name_are_both_kept(store: SampleStore, inbox: Path) -> None:
    for text in ("one", "two"):
        (inbox / "bad.png").write_text(text)
        aged(inbox / "bad.png")
        run(store, inbox)
    assert (inbox / ".refused" / "bad.png").read_text() == "one"
    assert (inbox / ".refused" / "bad-1.png").read_text() == "two"


def test_a_folder_of_an_unknown_class_is_set_aside_whole(store: SampleStore, inbox: Path) -> None:
    aged(write_png(inbox / "cats" / "a.png", 1))
    run(store, inbox)
    assert left_in(inbox) == [".refused/cats.reason.txt", ".refused/cats/a.png"]


def test_a_folder_that_was_just_made_is_left_alone(store: SampleStore, inbox: Path) -> None:
    (inbox / "untitled folder").mkdir()
    assert run(store, inbox) == ([], 0)
    assert (inbox / "untitled folder").is_dir()


def test_a_file_that_changed_just_now_is_left_for_the_next_pass(store: SampleStore, inbox: Path) -> None:
    write_png(inbox / "a.png", 1)
    (inbox / "b.png").write_text("text")
    write_png(inbox / "cats" / "a.png", 1)
    assert run(store, inbox) == ([], 3)
    assert left_in(inbox) == ["a.png", "b.png", "cats/a.png"]


def test_a_file_that_is_open_for_writing_is_left_whatever_its_age(store: SampleStore, inbox: Path) -> None:
    path = aged(write_png(inbox / "a.png", 1))
    with path.open("ab"):
        assert run(store, inbox) == ([], 1)
    assert len(run(store, inbox)[0]) == 1


def test_a_file_that_is_only_being_read_is_taken(store: SampleStore, inbox: Path) -> None:
    path = aged(write_png(inbox / "a.png", 1))
    with path.open("rb"):
        assert len(run(store, inbox)[0]) == 1


def test_a_time_in_the_future_does_not_keep_a_file_back(tmp_path: Path) -> None:
    assert is_settled([aged(write_png(tmp_path / "a.png", 1), -3600)])


def test_a_file_that_went_away_is_not_settled(tmp_path: Path) -> None:
    assert not is_settled([tmp_path / "gone.png"])


def test_the_owner_s_files_behind_a_linked_folder_are_never_removed(
    store: SampleStore, inbox: Path, tmp_path: Path
) -> None:
    own = aged(write_png(tmp_path / "photos" / "a.png", 1))
    (inbox / "cat").symlink_to(tmp_path / "photos")
    aged(inbox / "cat")
    (refused,), _ = run(store, inbox)
    assert "link to a folder" in str(refused)
    assert own.exists()
    assert (inbox / ".refused" / "cat").is_symlink()


def test_the_owner_s_file_behind_a_link_is_never_removed(store: SampleStore, inbox: Path, tmp_path: Path) -> None:
    own = aged(write_png(tmp_path / "a.png", 1))
    (inbox / "a.png").symlink_to(own)
    aged(inbox / "a.png")
    assert len(run(store, inbox)[0]) == 1
    assert own.exists()
    assert left_in(inbox) == []


def test_pipes_and_dangling_links_are_set_aside(store: SampleStore, inbox: Path) -> None:
    os.mkfifo(inbox / "pipe.png")
    aged(inbox / "pipe.png")
    (inbox / "link.png").symlink_to("gone")
    aged(inbox / "link.png")
    assert len(run(store, inbox)[0]) == 2
    assert [path.name for path in inbox.iterdir()] == [".refused"]


def test_a_missing_inbox_is_made(store: SampleStore, tmp_path: Path) -> None:
    assert run(store, tmp_path / "inbox") == ([], 0)
    assert (tmp_path / "inbox").is_dir()


def test_two_passes_at_once_take_every_file_once(store: SampleStore, inbox: Path) -> None:
    for number in range(40):
        aged(write_png(inbox / f"{number}.png", number))
    results: list[Taken | Refusal] = []

    def second() -> None:
        with SampleStore(store.path) as other:
            results.extend(run(other, inbox)[0])

    thread = threading.Thread(target=second)
    thread.start()
    results.extend(run(store, inbox)[0])
    thread.join()
    assert store.counts().total == 40
    assert sorted(result.path.name for result in results) == sorted(f"{number}.png" for number in range(40))


def test_a_crash_after_the_commit_is_mended_by_the_next_pass(store: SampleStore, inbox: Path) -> None:
    path = aged(write_png(inbox / "a.png", 1))
    interrupted = iter(InboxPass(store, inbox, SamplesConfig()))
    next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    aged(write_png(path, 1))
    (result,), _ = run(store, inbox)
    assert isinstance(result, Taken)
    assert result.added[0].outcome.value == "already stored"
    assert left_in(inbox) == []
