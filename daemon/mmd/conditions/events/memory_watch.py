"""Does the service manager want memory back? systemd's protocol for it, <https://systemd.io/MEMORY_PRESSURE/>.

`MEMORY_PRESSURE_WATCH` names a pressure file of the kernel, a FIFO or a socket; what `MEMORY_PRESSURE_WRITE` holds (in
base64) is written there first. A pressure file is urgent, the others readable, when memory is wanted.
"""

import base64
import binascii
import os
import select
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from mmd.conditions.events.source import Unavailable

_SWITCHED_OFF = "/dev/null"
_READ_BYTES = 4096


class MemoryWatch:
    """Tells when the service manager wants memory; that counts as the memory being short for `percent` of the time."""

    name = "memory watch of the service manager"
    resource = "memory"

    def __init__(self, path: Path, words: bytes, percent: float) -> None:
        """Begin to watch. Raises `Unavailable` where that cannot be done."""
        self.percent = percent
        try:
            self._is_pressure_file, self._file = _opened(path)
        except OSError as error:
            raise Unavailable(f"cannot open {path} ({error.strerror})") from error
        # As in `PressureTrigger`: a pressure file is readable at all times, so the loop waits on a poll of its own.
        self._poll = select.epoll()
        try:
            if words:
                os.write(self._file, words)
            self._poll.register(self._file, select.EPOLLPRI if self._is_pressure_file else select.EPOLLIN)
        except OSError as error:
            self.close()
            raise Unavailable(f"{path} does not take what the service manager wants written ({error})") from error

    def fileno(self) -> int:
        return self._poll.fileno()

    def take(self) -> bool:
        for _, events in self._poll.poll(0):
            if events & (select.EPOLLERR | select.EPOLLHUP):
                raise OSError(None, "its other end is gone")
        # What is said does not matter, only that it was.
        if not self._is_pressure_file and not os.read(self._file, _READ_BYTES):
            raise OSError(None, "its other end is gone")
        return True

    def close(self) -> None:
        self._poll.close()
        os.close(self._file)


def watched_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return what the service manager gave this process to watch; `None` when it did not, or switched it off."""
    path = environment.get("MEMORY_PRESSURE_WATCH", "")
    return None if path in ("", _SWITCHED_OFF) else Path(path)


def words_to_write(environment: Mapping[str, str] = os.environ) -> bytes:
    """Return what is to be written first. Raises `Unavailable` when that is no base64."""
    try:
        return base64.b64decode(environment.get("MEMORY_PRESSURE_WRITE", ""), validate=True)
    except binascii.Error as error:
        raise Unavailable(f"MEMORY_PRESSURE_WRITE is no base64 ({error})") from error


def _opened(path: Path) -> tuple[bool, int]:
    """Return whether it is a pressure file, and its descriptor, which never blocks."""
    kind = path.stat().st_mode
    if stat.S_ISSOCK(kind):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as made:
            made.connect(str(path))
            return False, made.detach()
    # To write too: a FIFO that nobody holds open for writing would be at its end at once.
    return stat.S_ISREG(kind), os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
