"""What happened, when, and why? The record of the daemon's decisions, in one SQLite file.

The daemon appends; `mmd report`, `mmd status` and `mmd why` read. Losing the last seconds of it in a power cut is
fine, so commits do not wait for the disk: SD cards wear out.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmd.errors import MmdError, StoreDamaged
from mmd.samples.database import Connected, is_at_rest, is_for_want_of_room

KEPT_SECONDS = 30 * 86400.0
"""Older conditions and states are dropped when the daemon starts, and daily."""
_BUSY_SECONDS = 2.0
_SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (at REAL NOT NULL, state TEXT NOT NULL, reasons TEXT NOT NULL,
    round INTEGER, step INTEGER);
CREATE INDEX IF NOT EXISTS states_at ON states (at);
CREATE TABLE IF NOT EXISTS reasons (code TEXT NOT NULL, message TEXT NOT NULL, began REAL NOT NULL, ended REAL);
CREATE INDEX IF NOT EXISTS reasons_began ON reasons (began);
CREATE TABLE IF NOT EXISTS conditions (at REAL NOT NULL, readings TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS conditions_at ON conditions (at);
CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL, outcome TEXT,
    reason TEXT);
CREATE TABLE IF NOT EXISTS events (at REAL NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL);
"""


class StateChange(msgspec.Struct, frozen=True):
    """From `at` (seconds since 1970) on the daemon was in `state`."""

    at: float
    state: str
    """One of `mmd.supervisor.states.State`, or `stopped` when the daemon ended."""
    reasons: tuple[str, ...]
    round: int | None
    step: int | None


class ReasonSpan(msgspec.Struct, frozen=True):
    """A reason held from `began` to `ended`; `None` while it holds."""

    code: str
    message: str
    began: float
    ended: float | None


class ConditionSample(msgspec.Struct, frozen=True):
    """What every condition read at one moment, by its name; `None` where the board has no such sensor."""

    at: float
    readings: dict[str, float | bool | None]


class RoundRecord(msgspec.Struct, frozen=True):
    number: int
    began: float
    ended: float | None
    outcome: str | None
    reason: str | None


class EventRecord(msgspec.Struct, frozen=True):
    """Something that is no state: a trainer that failed, a configuration that was refused."""

    at: float
    name: str
    detail: str


class History(Connected):
    """An open history. The daemon opens it to write, everyone else with `read_only`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the history at `path`.

        Raises `StoreDamaged` when the file is none, `MmdError` when it cannot be opened or the disk is full.
        """
        self._path = path
        try:
            if read_only:
                self._connection = _connected_to_read(path)
            else:
                self._connection = _prepared(path)
        except sqlite3.DatabaseError as error:
            if is_for_want_of_room(error):
                raise MmdError(f"No space left for the history {path}; free some and try again.") from error
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
                raise MmdError(
                    f"Cannot open the history {path}; check its owner and permissions, "
                    "and whether the disk takes another file (`df -i`)."
                ) from error
            raise StoreDamaged(
                f"The history {path} cannot be opened ({error}); remove it and start again: "
                "only the record of past decisions is lost."
            ) from error

    # Appending.

    def add_state(
        self, at: float, state: str, reasons: Sequence[str], *, round_number: int | None, step: int | None
    ) -> None:
        self._write("INSERT INTO states VALUES (?, ?, ?, ?, ?)", at, state, json.dumps(reasons), round_number, step)

    def begin_reason(self, code: str, message: str, began: float) -> None:
        self._write("INSERT INTO reasons VALUES (?, ?, ?, NULL)", code, message, began)

    def end_reason(self, code: str, ended: float) -> None:
        self._write("UPDATE reasons SET ended = ? WHERE code = ? AND ended IS NULL", ended, code)

    def end_every_reason(self, ended: float) -> None:
        """Close what a daemon that was killed left open."""
        self._write("UPDATE reasons SET ended = max(began, ?) WHERE ended IS NULL", ended)

    def add_conditions(self, at: float, readings: Mapping[str, float | bool | None]) -> None:
        self._write("INSERT INTO conditions VALUES (?, ?)", at, json.dumps(readings))

    def begin_round(self, number: int, began: float) -> None:
        """Note that a round was begun; a second time changes nothing."""
        self._write("INSERT OR IGNORE INTO rounds (number, began) VALUES (?, ?)", number, began)

    def end_round(self, number: int, ended: float, outcome: str, reason: str) -> None:
        self._write("INSERT OR IGNORE INTO rounds (number, began) VALUES (?, ?)", number, ended)
        self._write(
            "UPDATE rounds SET ended = ?, outcome = ?, reason = ? WHERE number = ?", ended, outcome, reason, number
        )

    def add_event(self, at: float, name: str, detail: str) -> None:
        self._write("INSERT INTO events VALUES (?, ?, ?)", at, name, detail)

    def drop_before(self, at: float) -> None:
        """Forget conditions, states, reasons and events that were over before `at`; rounds stay."""
        for table, column in (("conditions", "at"), ("events", "at"), ("reasons", "ended")):
            self._write(f"DELETE FROM {table} WHERE {column} < ?", at)
        # The last of them was in force still.
        self._write("DELETE FROM states WHERE rowid < (SELECT max(rowid) FROM states WHERE at < ?)", at)

    def _write(self, statement: str, *values: Any) -> None:
        with self._translated():
            self._connection.execute(statement, values)

    # Reading; every list is in the order of time.

    def states(self, since: float = 0.0) -> list[StateChange]:
        rows = self._read("SELECT at, state, reasons, round, step FROM states WHERE at >= ? ORDER BY rowid", since)
        return [
            StateChange(at, state, tuple(json.loads(reasons)), number, step)
            for at, state, reasons, number, step in rows
        ]

    def states_around(self, since: float) -> list[StateChange]:
        """Return the changes from `since` on, after the one that was in force then."""
        rows = self._read(
            "SELECT at, state, reasons, round, step FROM states WHERE rowid >= coalesce("
            "(SELECT max(rowid) FROM states WHERE at < ?), 0) ORDER BY rowid",
            since,
        )
        return [
            StateChange(at, state, tuple(json.loads(reasons)), number, step)
            for at, state, reasons, number, step in rows
        ]

    def last_sign_of_life(self) -> float:
        """Return the latest time of all that the daemon wrote; 0 when it wrote nothing."""
        rows = self._read(
            "SELECT max(coalesce((SELECT max(at) FROM states), 0), coalesce((SELECT max(at) FROM conditions), 0), "
            "coalesce((SELECT max(at) FROM events), 0))"
        )
        latest: float = rows[0][0]
        return latest

    def last_state(self) -> StateChange | None:
        rows = self._read("SELECT at, state, reasons, round, step FROM states ORDER BY rowid DESC LIMIT 1")
        for at, state, reasons, number, step in rows:
            return StateChange(at, state, tuple(json.loads(reasons)), number, step)
        return None

    def reasons(self, since: float = 0.0) -> list[ReasonSpan]:
        """Return the reasons that held at or after `since`."""
        rows = self._read(
            "SELECT code, message, began, ended FROM reasons WHERE ended IS NULL OR ended >= ? ORDER BY rowid", since
        )
        return [ReasonSpan(*row) for row in rows]

    def conditions(self, since: float = 0.0) -> list[ConditionSample]:
        rows = self._read("SELECT at, readings FROM conditions WHERE at >= ? ORDER BY rowid", since)
        return [ConditionSample(at, json.loads(readings)) for at, readings in rows]

    def rounds(self) -> list[RoundRecord]:
        rows = self._read("SELECT number, began, ended, outcome, reason FROM rounds ORDER BY number")
        return [RoundRecord(*row) for row in rows]

    def events(self, since: float = 0.0) -> list[EventRecord]:
        rows = self._read("SELECT at, name, detail FROM events WHERE at >= ? ORDER BY rowid", since)
        return [EventRecord(*row) for row in rows]

    def _read(self, statement: str, *values: Any) -> list[Any]:
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(
                f"The history {self._path} fails ({error}); is the disk full? "
                "If not, remove the file: only the record of past decisions is lost."
            ) from error


def _connected(path: Path, parameters: str) -> sqlite3.Connection:
    target = f"{path.absolute().as_uri()}?{parameters}"
    connection = sqlite3.connect(target, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA cache_size = -256")  # the first look at the file
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _prepared(path: Path) -> sqlite3.Connection:
    connection = _connected(path, "mode=rwc")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _connected_to_read(path: Path) -> sqlite3.Connection:
    """Read what nobody writes just now as it is where a full disk or a read-only folder takes no shared index."""
    try:
        return _connected(path, "mode=ro")
    except sqlite3.OperationalError:
        if not is_at_rest(path):
            raise
        return _connected(path, "mode=ro&immutable=1")


def open_to_write(path: Path) -> History:
    """Open the history for the daemon; a damaged one is moved aside, for it must not keep the daemon from running."""
    try:
        return History(path)
    except StoreDamaged as error:
        import logging  # only the daemon writes

        aside = path.with_name(f"{path.name}.damaged")
        logging.getLogger(__name__).warning("%s It is moved to %s.", error, aside.name)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside)
        return History(path)


def open_history(path: Path) -> History | None:
    """Open the history to read it; `None` when there is none yet."""
    return History(path, read_only=True) if path.exists() else None
