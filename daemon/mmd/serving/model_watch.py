"""When does `models/current` move? Tells at once, so that a new model is loaded before anybody asks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

_POLL_SECONDS = 1.0


class ModelWatch:
    """Calls back, from a thread of its own, whenever the link moves; by inotify, or by polling without it."""

    def __init__(self, models: Path, on_change: Callable[[], None]) -> None:
        class Changes(FileSystemEventHandler):
            def on_any_event(self, event: "FileSystemEvent") -> None:
                if Path(str(event.dest_path or event.src_path)).name == "current":
                    on_change()

        self._observer: BaseObserver = Observer()
        self._observer.schedule(Changes(), str(models))
        try:
            self._observer.start()
        except OSError:
            # The system's inotify watches are used up.
            self._observer = PollingObserver(timeout=_POLL_SECONDS)
            self._observer.schedule(Changes(), str(models))
            self._observer.start()

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()
