"""When is there something in the inbox folder? Watches it and calls back once it has been quiet for a while.

Imports neither numpy nor Pillow; watchdog only when watching starts.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

REFUSED_FOLDER = ".refused"
SETTLE_SECONDS = 2.0
"""A file that changed less than this ago may still be being written."""
_MARGIN_SECONDS = 0.25
_RETRY_SECONDS = 10.0
_LONGEST_RETRY_SECONDS = 600.0
_POLL_SECONDS = 5.0


def watch(folder: Path, on_settled: Callable[[], None], *, settle_seconds: float = SETTLE_SECONDS) -> "InboxWatch":
    """Call `on_settled` from another thread whenever `folder` holds files and was quiet for `settle_seconds`.

    The first call comes for what lies there already. While files stay there, it is called again after ever longer
    rests. Uses inotify, and polling where that cannot be had. `stop()` ends it.
    """
    started = InboxWatch(folder, on_settled, settle_seconds=settle_seconds)
    started.start()
    return started


def has_files(folder: Path) -> bool:
    """Return whether anything that is not hidden lies in `folder` or its subfolders."""
    try:
        for entry in folder.iterdir():
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() or not entry.is_dir() or has_files(entry):
                return True
    except OSError:
        # Unreadable or just gone: the pass that is called will name it, if it is still there.
        return folder.exists()
    return False


class InboxWatch:
    """A running watch; made by `watch`."""

    def __init__(self, folder: Path, on_settled: Callable[[], None], *, settle_seconds: float) -> None:
        self._folder = folder
        self._on_settled = on_settled
        self._settle = settle_seconds + _MARGIN_SECONDS
        self._wake = threading.Condition()
        self._changed = time.monotonic()
        self._is_due = True
        self._is_stopped = False
        self._observer: BaseObserver | None = None
        self._thread = threading.Thread(target=self._run, name="mmd-inbox", daemon=True)

    def start(self) -> None:
        self._observer = _start_observer(self._folder, self._note)
        self._thread.start()

    def stop(self) -> None:
        """End the watch; no callback runs after this returns."""
        with self._wake:
            self._is_stopped = True
            self._wake.notify()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _note(self, event: "FileSystemEvent") -> None:
        source = Path(str(event.src_path))
        if any(part.startswith(".") for part in source.relative_to(self._folder).parts):
            return
        # Reading a file is no change, and the pass reads every file.
        if event.event_type in ("opened", "closed_no_write"):
            return
        with self._wake:
            self._changed = time.monotonic()
            self._is_due = True
            self._wake.notify()

    def _run(self) -> None:
        retry = _RETRY_SECONDS
        while self._wait_until_settled(retry):
            if has_files(self._folder):
                self._on_settled()
                retry = min(retry * 2, _LONGEST_RETRY_SECONDS)
            else:
                retry = _RETRY_SECONDS

    def _wait_until_settled(self, retry_seconds: float) -> bool:
        """Wait for the next call; return False once the watch is stopped."""
        with self._wake:
            retry_at = time.monotonic() + retry_seconds if has_files(self._folder) else None
            while not self._is_stopped:
                now = time.monotonic()
                due = self._changed + self._settle if self._is_due else retry_at
                if due is not None and now >= due:
                    self._is_due = False
                    return True
                self._wake.wait(None if due is None else due - now)
        return False


def _start_observer(folder: Path, note: Callable[["FileSystemEvent"], None]) -> "BaseObserver":
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer
    from watchdog.observers.polling import PollingObserver

    class Notes(FileSystemEventHandler):
        def on_any_event(self, event: "FileSystemEvent") -> None:
            note(event)

    observer: BaseObserver = Observer()
    observer.schedule(Notes(), str(folder), recursive=True)
    try:
        observer.start()
    except OSError:
        # The system's inotify watches are used up.
        observer = PollingObserver(timeout=_POLL_SECONDS)
        observer.schedule(Notes(), str(folder), recursive=True)
        observer.start()
    return observer
