"""How is the sample store's SQLite file made, opened and checked, and what do SQLite's errors mean to the user?

WAL with `synchronous=FULL`: a commit that returned is on disk.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mmd.durable import fsync_folder
from mmd.errors import MmdError, StoreDamaged, UsageError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x4D4D4453
"""`MMDS`, in the file's header: it tells a sample store from any other SQLite database."""

BUSY_SECONDS = 15.0
CACHE_KIB = 1024
CHECK_ON_OPEN_BYTES = 64 * 2**20
"""A file up to this size is checked whole when a command opens it to write; a bigger one by `check`."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE samples (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    label TEXT,
    holdout INTEGER NOT NULL,
    source TEXT NOT NULL,
    ingested REAL NOT NULL,
    seen_in_round INTEGER,
    bytes INTEGER NOT NULL
);
CREATE TABLE contents (seq INTEGER PRIMARY KEY REFERENCES samples (seq), content BLOB NOT NULL);
"""


class Connected:
    """An open SQLite file, which `with` closes."""

    _connection: sqlite3.Connection

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_database(path: Path, meta: dict[str, str]) -> None:
    """Make the store's file, readable by its owner's user and group only. Does nothing when it is there already."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    os.close(descriptor)
    with translated(path):
        connection = _connect(path)
        try:
            _configure(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
    fsync_folder(path.parent)


def open_database(path: Path) -> sqlite3.Connection:
    """Open an existing store. Raises `StoreDamaged` when it is no sample store of a version that is known."""
    if not path.exists():
        raise UsageError(f"There is no sample store at {path}; run `mmd init` first.")
    with translated(path):
        try:
            return _opened(path)
        except sqlite3.OperationalError as error:
            if not is_for_want_of_room(error):
                raise
        return _opened(path, is_shared=False)


def _opened(path: Path, *, is_shared: bool = True) -> sqlite3.Connection:
    """Open and verify the store. Not shared it needs no index of its journal, for which a full disk has no room."""
    connection = _connect(path)
    try:
        if not is_shared:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _configure(connection)
        _require_known(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def is_for_want_of_room(error: sqlite3.Error) -> bool:
    """Return whether the disk is full; the index of a journal is where SQLite notices first."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE


def check_database(connection: sqlite3.Connection, path: Path) -> None:
    """Read every page. Raises `StoreDamaged` with SQLite's first finding."""
    with translated(path):
        finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise StoreDamaged(f"The sample store {path} is damaged ({_one_line(finding)}); {_WAY_OUT}")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        _address(path), uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _address(path: Path) -> str:
    """Return the URI to open: to read alone where nothing can be written, so that `mmd status` works there too."""
    address = path.absolute().as_uri()
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return address
    return f"{address}?mode=ro{'&immutable=1' if is_at_rest(path) else ''}"


def is_at_rest(path: Path) -> bool:
    """Return whether its journal is empty: then nobody writes, and reading needs no shared index to be made."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size == 0
    except FileNotFoundError:
        return True


def _require_known(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreDamaged(f"{path} is not a sample store; {_WAY_OUT}")
    if version != SCHEMA_VERSION:
        raise StoreDamaged(
            f"The sample store {path} has schema version {version}; "
            f"this mmd reads version {SCHEMA_VERSION}. Upgrade mmd."
        )
    connection.execute("SELECT seq, id FROM samples LIMIT 1").fetchone()


_WAY_OUT = "restore it from a backup, or move it away and run `mmd init` and `mmd ingest` again."


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the product's own, each with what to do next."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        detail = _one_line(str(error))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise MmdError(f"The sample store {path} is busy with another command; try again.") from error
        if is_for_want_of_room(error):
            raise MmdError(f"No space left for the sample store {path}; free some and try again.") from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise MmdError(
                f"Cannot open the sample store {path} ({detail}); check its owner and permissions."
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise MmdError(f"The disk fails under the sample store {path} ({detail}); see `dmesg`.") from error
        raise StoreDamaged(f"The sample store {path} is damaged ({detail}); {_WAY_OUT}") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())
