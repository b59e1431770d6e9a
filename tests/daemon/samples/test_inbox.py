"""Does the watch call when files have come to rest, and only then?"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import eventually, write_png

from mmd.samples.inbox import InboxWatch, has_files, watch

SETTLE = 0.05


class Calls:
    """Counts calls, and does what it is told at each."""

    def __init__(self) -> None:
        self.count = 0
        self.called = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.called.set()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def watching(inbox: Path, calls: Calls) -> Iterator[InboxWatch]:
    started = watch(inbox, calls, settle_seconds=SETTLE)
    yield started
    started.stop()


def test_a_new_file_is_told_once_it_is_quiet(inbox: Path, calls: Calls, watching: InboxWatch) -> None:
    write_png(inbox / "cat" / "a.png", 1)
    eventually(lambda: calls.count == 1)


def test_what_lies_there_already_is_told(inbox: Path, calls: Calls) -> None:
    write_png(inbox / "a.png", 1)
    started = watch(inbox, calls, settle_seconds=SETTLE)
    eventually(lambda: calls.count == 1)
    started.stop()


def test_an_empty_inbox_is_quiet(inbox: Path, calls: Calls, watching: InboxWatch) -> None:
    assert not calls.called.wait(3 * SETTLE + 0.5)


def test_what_is_set_aside_or_hidden_is_no_news(inbox: Path, calls: Calls, watching: InboxWatch) -> None:
    write_png(inbox / ".refused" / "a.png", 1)
    write_png(inbox / ".part.png", 2)
    assert not calls.called.wait(3 * SETTLE + 0.5)


def test_files_that_stay_are_told_again(inbox: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmd.samples.inbox._RETRY_SECONDS", 0.05)
    write_png(inbox / "a.png", 1)
    started = watch(inbox, calls, settle_seconds=SETTLE)
    eventually(lambda: calls.count >= 3)
    (inbox / "a.png").unlink()
    started.stop()


def test_no_call_comes_after_stop(inbox: Path, calls: Calls, watching: InboxWatch) -> None:
    watching.stop()
    write_png(inbox / "a.png", 1)
    assert not calls.called.wait(3 * SETTLE + 0.5)


def test_polling_takes_over_when_inotify_is_used_up(inbox: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers.inotify import InotifyObserver

    def used_up(self: InotifyObserver) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(InotifyObserver, "start", used_up)
    monkeypatch.setattr("mmd.samples.inbox._POLL_SECONDS", 0.05)
    started = watch(inbox, calls, settle_seconds=SETTLE)
    write_png(inbox / "a.png", 1)
    eventually(lambda: calls.count >= 1)
    started.stop()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], False),
        (["cat/"], False),
        ([".refused/a.png"], False),
        ([".hidden"], False),
        (["a.png"], True),
        (["cat/deep/a.png"], True),
    ],
)
def test_only_visible_files_count(inbox: Path, names: list[str], expected: bool) -> None:
    for name in names:
        path = inbox / name
        if name.endswith("/"):
            path.mkdir()
        else:
            write_png(path, 1)
    assert has_files(inbox) is expected


def test_a_missing_inbox_has_no_files(tmp_path: Path) -> None:
    assert not has_files(tmp_path / "inbox")


def test_a_dangling_link_counts(inbox: Path) -> None:
    (inbox / "a.png").symlink_to("gone")
    assert has_files(inbox)


def test_watching_needs_neither_numpy_nor_pillow() -> None:
    code = "import sys, mmd.samples.inbox; print(sorted({'numpy', 'PIL', 'watchdog'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
