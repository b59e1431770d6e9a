"""When does `models/current` move? Tells at once, so that a new model is loaded before anybody asks for it."""

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import DirCreatedEvent, DirMovedEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

from mmd.layout import StateDir

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

_POLL_SECONDS = 1.0


class _Named(FileSystemEventHandler):
    """Calls back for what happens under one of `names`."""

    def __init__(self, names: Collection[str], on_change: Callable[[], None]) -> None:
        self._names = names
        self._on_change = on_change

    def on_any_event(self, event: "FileSystemEvent") -> None:
        if Path(str(event.dest_path or event.src_path)).name in self._names:
            self._on_change()


class ModelWatch:
    """Calls back, from a thread of its own, whenever the link moves; by inotify, or by polling without it."""

    def __init__(self, state: StateDir, on_change: Callable[[], None]) -> None:
        self._state = state
        self._on_change = on_change
        self._link_moved = _Named(("current",), on_change)
        self._observer: BaseObserver = Observer()
        try:
            self._begin()
        except OSError:
            # The system's inotify watches are used up.
            self._observer = PollingObserver(timeout=_POLL_SECONDS)
            self._begin()

    def _begin(self) -> None:
        self._models = self._observer.schedule(self._link_moved, str(self._state.models))
        folders = _Named((self._state.models.name, self._state.artifact_set.name), self._follow)
        self._observer.schedule(folders, str(self._state.root), event_filter=[DirCreatedEvent, DirMovedEvent])
        self._observer.start()

    def _follow(self) -> None:
        """Watch the folder of the models that is there now: `mmd init --force` makes another one, and another set."""
        with contextlib.suppress(KeyError):
            self._observer.unschedule(self._models)
        with contextlib.suppress(OSError):  # it is gone again already
            self._models = self._observer.schedule(self._link_moved, str(self._state.models))
        self._on_change()

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()
