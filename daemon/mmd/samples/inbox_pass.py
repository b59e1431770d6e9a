"""What does one pass through the inbox folder do?

What was stored is removed after its commit; what was refused moves to `.refused/` with the reason beside it; what may
still be being written stays for the next pass. A crash anywhere leaves a file in the inbox, or stored, or both: the
next pass finds it stored already and removes it.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmd.config import SamplesConfig
from mmd.durable import fsync_folder, make_folder, move, write_bytes
from mmd.samples.find import Found, Refusal, find
from mmd.samples.inbox import REFUSED_FOLDER, SETTLE_SECONDS
from mmd.samples.ingest import Taken, ingest
from mmd.samples.recording import Resample
from mmd.samples.store import SampleStore


class InboxPass:
    """One pass; iterate it, then ask for what was left: `unsettled` counts, `stuck` names."""

    def __init__(
        self, store: SampleStore, inbox: Path, config: SamplesConfig, resample: Resample | None = None
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._config = config
        self._resample = resample
        self.unsettled = 0
        """Files that may still be being written."""
        self.stuck: list[Path] = []
        """What was stored or refused, in folders of somebody else who lets nobody remove it."""

    def __iter__(self) -> Iterator[Taken | Refusal]:
        make_folder(self._inbox)
        lock = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A second pass at the same time (the daemon's and the owner's) waits here, then finds the rest.
            fcntl.flock(lock, fcntl.LOCK_EX)
            touched: set[Path] = set()
            for result in ingest(self._store, self._settled(), self._config, self._resample):
                try:
                    if isinstance(result, Taken):
                        result.path.unlink(missing_ok=True)
                        touched.add(result.path.parent)
                    else:
                        self._set_aside(result)
                except PermissionError:
                    self.stuck.append(result.path)
                yield result
            for folder in touched:
                fsync_folder(folder)
        finally:
            os.close(lock)

    def _settled(self) -> Iterator[Found | Refusal]:
        for item in find(self._inbox, self._store.form, follow_folders=False):
            if item.path == self._inbox:
                continue
            files = _files_in(item.path)
            if not files:
                continue
            if is_settled(files):
                yield item
            else:
                self.unsettled += 1

    def _set_aside(self, refusal: Refusal) -> None:
        """Move what was refused out of the way, with the reason beside it."""
        aside = self._inbox / REFUSED_FOLDER
        make_folder(aside)
        name, number = refusal.path.name, 1
        while os.path.lexists(aside / name) or os.path.lexists(aside / f"{name}.reason.txt"):
            name = f"{refusal.path.stem}-{number}{refusal.path.suffix}"
            number += 1
        place = refusal.path.relative_to(self._inbox)
        told = aside / f"{name}.reason.txt"
        write_bytes(told, f"{place}: {refusal.reason}\n".encode(errors="replace"))
        try:
            move(refusal.path, aside / name)
        except PermissionError:
            told.unlink()
            raise


def is_settled(paths: Iterable[Path], *, settle_seconds: float = SETTLE_SECONDS) -> bool:
    """Return whether none of `paths` changed just now or is open for writing."""
    for path in paths:
        try:
            age = time.time() - path.lstat().st_mtime
        except OSError:
            return False
        # A time in the future tells nothing: the clock was set, or the file came from elsewhere.
        if 0 <= age < settle_seconds or _is_open_for_writing(path):
            return False
    return True


def _is_open_for_writing(path: Path) -> bool:
    """Ask for a read lease: the kernel refuses it while anybody has the file open for writing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Should a writer come just now, the kernel tells by a signal: one that is ignored unless asked for.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        # Not our file, or a file system without leases: its age has to do.
        return False
    finally:
        os.close(descriptor)
    return False


_F_SETSIG = 10
"""Linux; Python has no name for it."""


def _files_in(path: Path) -> list[Path]:
    """Return `path`, or every file under it when it is a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
