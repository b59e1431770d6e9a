"""Which signals did the daemon get? They become events of its selector, so that nothing happens between two lines."""

import os
import selectors
import signal
from collections.abc import Callable
from types import FrameType

_CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """Catches signals from construction until `close`."""

    def __init__(self, selector: selectors.BaseSelector, on_signal: Callable[[], None]) -> None:
        """Wake `selector` and call `on_signal` at each one."""
        self._selector = selector
        self._on_signal = on_signal
        self.is_stop_asked = False
        self.is_reload_asked = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _CAUGHT:
            signal.signal(number, self._catch)
        selector.register(self._read, selectors.EVENT_READ, lambda: os.read(self._read, 4096))

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.is_stop_asked = True
        elif number == signal.SIGHUP:
            self.is_reload_asked = True
        self._on_signal()

    def take_reload(self) -> bool:
        """Return whether a reload was asked for since the last call."""
        was_asked, self.is_reload_asked = self.is_reload_asked, False
        return was_asked

    def close(self) -> None:
        for number in _CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._selector.unregister(self._read)
        os.close(self._read)
        os.close(self._write)
