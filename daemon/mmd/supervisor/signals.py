"""Which signals did the daemon get? They become events of its selector, so that nothing happens between two lines.

SIGHUP asks for a reload, unless it comes because the terminal that the daemon was started from is gone: then it asks
for the end. Under `nohup` the daemon outlives its terminal.
"""

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
        is_to_outlive_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = _has_terminal() and not is_to_outlive_terminal
        self._said_to_terminal = [number for number in (1, 2) if os.isatty(number)]
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _CAUGHT:
            signal.signal(number, self._catch)
        selector.register(self._read, selectors.EVENT_READ, lambda: os.read(self._read, 4096))

    def _catch(self, number: int, frame: FrameType | None) -> None:
        has_hung_up = number == signal.SIGHUP and self._ends_with_terminal and not _has_terminal()
        if has_hung_up:
            self._turn_from_terminal()
        if has_hung_up or number in (signal.SIGTERM, signal.SIGINT):
            self.is_stop_asked = True
        elif number == signal.SIGHUP:
            self.is_reload_asked = True
        self._on_signal()

    def _turn_from_terminal(self) -> None:
        """Say to nobody what is still said: Python ends with code 120 when it cannot write its last words."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        for number in self._said_to_terminal:
            os.dup2(nowhere, number)
        os.close(nowhere)

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


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal: `tty(4)`. One that hung up is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
