"""Does a process keep others out of the sample store or the cache? The kernel's list of locks, `proc_locks(5)`.

A trainer that is stopped in place may be in the middle of reading or writing a row. SQLite's locks are those of the
file, so `mmd forget` would wait for somebody who does not go on.
"""

from collections.abc import Iterator
from pathlib import Path

from mmd.conditions.reading import read_text
from mmd.layout import StateDir

_WAL_INDEX_LOCKS = range(120, 128)
"""Bytes of a `-shm` file that are locked by whoever writes, checkpoints, recovers or reads (sqlite.org/walformat.html);
byte 128 is locked by whoever has the file open."""
_EVERY_BYTE = range(2**63)


def keeps_others_out(pid: int, state_dir: StateDir, *, root: Path = Path("/")) -> bool:
    """Return whether the process holds a lock that `mmd ingest`, `label` or `forget` may have to wait for."""
    index = state_dir.samples_db.with_name(f"{state_dir.samples_db.name}-shm")
    watched = {
        inode: locks
        for path, locks in ((index, _WAL_INDEX_LOCKS), (state_dir.cache_db, _EVERY_BYTE))
        if (inode := _inode(path)) is not None
    }
    return any(first in watched.get(inode, ()) for inode, first in _locks_of(pid, root))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _locks_of(pid: int, root: Path) -> Iterator[tuple[int, int]]:
    """Yield the inode and the first byte of each lock; those that the process still waits for are left out.

    A line is `1: POSIX ADVISORY WRITE 1234 fd:01:5678 0 EOF`, with `->` after the number of one that is waited for.
    """
    for line in (read_text(root / "proc/locks") or "").splitlines():
        words = line.split()
        if len(words) == 8 and words[1] == "POSIX" and words[4] == str(pid):
            inode = words[5].rpartition(":")[2]
            if inode.isdigit() and words[6].isdigit():
                yield int(inode), int(words[6])
