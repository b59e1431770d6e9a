"""What does the daemon's loop listen to besides its clock? The output of the trainer of the moment, and the inbox."""

import logging
import selectors
from collections.abc import Callable
from pathlib import Path

from mmd.layout import StateDir
from mmd.supervisor.inbox_watch import Inbox
from mmd.supervisor.trainer_process import TrainerProcess

log = logging.getLogger(__name__)


class TrainerFollower:
    """Has the selector listen to one trainer after the other."""

    def __init__(self, selector: selectors.BaseSelector, on_output: Callable[[], None]) -> None:
        self._selector = selector
        self._on_output = on_output
        self._trainer: TrainerProcess | None = None
        self._descriptor: int | None = None

    def follow(self, trainer: TrainerProcess | None) -> None:
        """Listen to this trainer from now on, and to no other."""
        if trainer is self._trainer:
            return
        self.close()
        self._trainer = trainer
        if trainer is not None:
            self._descriptor = trainer.fileno()
            self._selector.register(self._descriptor, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        self._on_output()
        if self._trainer is not None and self._trainer.has_ended_output:
            self.close()

    def close(self) -> None:
        """Listen no more."""
        if self._descriptor is not None and self._descriptor in self._selector.get_map():
            self._selector.unregister(self._descriptor)
        self._descriptor = None


class InboxFollower:
    """Watches the inbox as long as it is to be watched."""

    def __init__(self, selector: selectors.BaseSelector, state_dir: StateDir, config_file: Path | None) -> None:
        self._selector = selector
        self._state_dir = state_dir
        self._config_file = config_file
        self._inbox: Inbox | None = None
        self._has_complained = False

    def follow(self, *, is_wanted: bool) -> None:
        """Begin or end to watch, and take in what has settled."""
        if not is_wanted:
            self.close()
        elif self._inbox is None:
            self._begin()
        if self._inbox is not None:
            self._inbox.look()

    def _begin(self) -> None:
        try:
            self._inbox = Inbox(self._state_dir, self._config_file)
        except OSError as error:
            if not self._has_complained:
                log.warning("cannot watch %s: %s", self._state_dir.inbox, error.strerror)
            self._has_complained = True
            return
        self._selector.register(self._inbox, selectors.EVENT_READ, self._inbox.take_notice)

    @property
    def pid(self) -> int | None:
        """Of the process that takes files in; `None` when none does."""
        return None if self._inbox is None else self._inbox.pid

    def close(self) -> None:
        if self._inbox is not None:
            self._selector.unregister(self._inbox)
            self._inbox.close()
            self._inbox = None
