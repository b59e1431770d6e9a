"""Who owns this state folder? One process at a time: an advisory lock that the kernel drops when its owner dies."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from mmd.errors import MmdError, UsageError


class DaemonLock:
    """The lock of one state folder, held from construction until `release` or the death of the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises `UsageError` naming the process that holds it."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise MmdError(
                f"Cannot open {path}: {error.strerror}; check the owner and permissions of {path.parent}."
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = _pid_in(self._descriptor)
            os.close(self._descriptor)
            named = f"process {pid}" if pid else "another process"
            raise UsageError(
                f"{path.parent} is already in use by {named}; stop that one first, or choose another --state-dir."
            ) from None
        # It only names the owner to others: a full disk must not keep the owner from running.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(path: Path) -> int | None:
    """Return the process that holds the lock, by `proc_locks(5)`: trying it could keep a daemon from starting."""
    try:
        pid, inode = int(path.read_text()), path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except (OSError, ValueError):
        return None
    locks = (line.split() for line in lines if " FLOCK " in line and "->" not in line)
    return pid if any(words[4] == str(pid) and words[5].endswith(f":{inode}") for words in locks) else None


def _pid_in(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except (OSError, ValueError):
        return None
