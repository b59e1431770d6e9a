"""What was worked out about a sample once, and need not be again? Its views, and what the Mentor said about them.

All of it can be made anew: an entry that fails its checksum is missing, and a file that is damaged is thrown away. It
lies in a file of its own, so that none of this can happen to the samples.
"""

import math
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmd.errors import MmdError
from mmd.samples.database import Connected

CACHE_NAME = "cache.db"
ID_BYTES = 32
"""A key begins with the sample's id; what follows is its reader's."""

_BEYOND = b"\xff" * 8
"""After an id: behind every key that begins with it."""
_PAGE_BYTES = 16 * 1024
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 15.0
_QUERY_CHUNK = 500
_ROW_OVERHEAD = 50
_INDEX_BYTES = 80
"""What SQLite takes for an entry beside its content, in the table and in the index of keys; measured."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (scope TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL);
"""


class RowCache(Connected):
    """An open cache. One thread at a time; any number of processes."""

    def __init__(self, path: Path, scope: str, *, most_bytes: float = math.inf) -> None:
        """Open the cache at `path`, made when it is missing; entries of another `scope` are dropped.

        `scope` names everything but the sample that the entries depend on. Raises `MmdError` when the disk is full or
        refuses.
        """
        self._path = path
        self._scope = scope
        self._most_bytes = most_bytes
        self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            _require_damage(error, self._path)
            remove_cache(self._path)
        return self._open()

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._path.touch(mode=0o640)
        connection = _connect(self._path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (version, self._scope) != (_SCHEMA_VERSION, _scope(connection)):
                connection.execute("DELETE FROM entries")
                connection.execute("DELETE FROM meta")
                connection.execute("INSERT INTO meta VALUES (?)", (self._scope,))
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def has_room(self) -> bool:
        """Whether the file is smaller than it may become."""
        return cache_bytes(self._path) < self._most_bytes

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the contents of those of `keys` that are there and whole."""
        found: dict[bytes, bytes] = {}
        with self._surviving_damage():
            for start in range(0, len(keys), _QUERY_CHUNK):
                chunk = keys[start : start + _QUERY_CHUNK]
                places = ", ".join("?" * len(chunk))
                rows = self._connection.execute(
                    f"SELECT key, content, checksum FROM entries WHERE key IN ({places})", chunk
                ).fetchall()
                found |= {key: content for key, content, checksum in rows if zlib.crc32(content) == checksum}
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes or forgets meanwhile; what is written is there when this ends."""
        with self._surviving_damage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def write(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep `entries`, within `writing`."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
            [(key, content, zlib.crc32(content)) for key, content in entries.items()],
        )

    def count(self) -> int:
        """Return how many entries there are."""
        with self._surviving_damage():
            counted: int = self._connection.execute("SELECT count(*) FROM entries").fetchone()[0]
            return counted
        return 0

    @contextmanager
    def _surviving_damage(self) -> Iterator[None]:
        """Begin with an empty file when this one is damaged. Raises `MmdError` when it is not to blame."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            _require_damage(error, self._path)
            self._connection.close()
            remove_cache(self._path)
            self._connection = self._opened()


def entry_bytes(content: int) -> int:
    """Return about how much of the disk an entry with so many bytes of content takes."""
    row = content + _ROW_OVERHEAD
    # Rows share a page whole; longer ones go on in pages of their own.
    in_table = _PAGE_BYTES // (_PAGE_BYTES // row) if row <= _PAGE_BYTES else row * 11 // 10
    return in_table + _INDEX_BYTES


def cache_bytes(path: Path) -> int:
    """Return the size of the cache at `path`; 0 without one."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def remove_cache(path: Path) -> None:
    """Remove the cache with its journal."""
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def keep_rows(path: Path, ids: Collection[str]) -> None:
    """Remove everything that is about no sample of `ids`, so that no file holds it any more; replay rows stay.

    Raises `MmdError` when the cache is busy or the disk refuses.
    """
    if not path.exists():
        return
    kept = {bytes.fromhex(identifier) for identifier in ids}
    try:
        connection = _connect(path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            held = connection.execute(f"SELECT DISTINCT substr(key, 1, {ID_BYTES}) FROM entries").fetchall()
            strangers = [prefix for (prefix,) in held if prefix not in kept and not is_replay(prefix)]
            ranges = [(prefix, prefix + _BEYOND) for prefix in strangers]
            connection.executemany("DELETE FROM entries WHERE key BETWEEN ? AND ?", ranges)
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        _require_damage(error, path)
        remove_cache(path)


def replay_id(row: int) -> bytes:
    """Return what stands for the id of a row of the anchor set; no sample has such a hash."""
    return bytes(ID_BYTES - 4) + row.to_bytes(4, "big")


def is_replay(identifier: bytes) -> bool:
    return not any(identifier[: ID_BYTES - 4])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        # No write-ahead log: what is deleted is overwritten in the one file that there is.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -1024")
    except BaseException:
        connection.close()
        raise
    return connection


def _scope(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT scope FROM meta").fetchone()
    return None if row is None else str(row[0])


def _require_damage(error: sqlite3.DatabaseError, path: Path) -> None:
    """Return when the file itself is to blame for `error`; raise what else it is."""
    if isinstance(error, sqlite3.ProgrammingError):
        raise error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise MmdError(f"The cache {path} is busy with another command; try again.") from error
    if code == sqlite3.SQLITE_FULL:
        raise MmdError(f"No space left for the cache {path}; free some, or lower training.cache_mib.") from error
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        raise MmdError(f"Cannot use the cache {path} ({error}); check its disk, owner and permissions.") from error
