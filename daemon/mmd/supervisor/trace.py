"""What did the board feel over a day, and what would the policy have done? A trace is recorded, and replayed.

A line of JSON a change: `{"at": seconds, "readings": {condition: value}}`, after a first line
`{"trace": 1, "wall": ...}`. Between two lines everything stands still but the time since somebody touched the
board, which goes on. What the clock and training itself decide (hours, budgets, the length of a run) is in no trace: a
replay reckons it anew, so that other limits show what they would have done.
"""

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmd.conditions import Conditions, Instant, Reading, Usage
from mmd.conditions.kinds import SENSED
from mmd.conditions.sense import reckoned
from mmd.conditions.usage import NO_USAGE
from mmd.config import Config
from mmd.errors import InputRefused, UsageError
from mmd.limits import ConditionsConfig, DutyCycle
from mmd.policy import Facts, Mode, Tracker, decide, look, remember
from mmd.policy.duty_cycle import TokenBucket, turn
from mmd.supervisor.states import RUNNING, Event, State, transition

VERSION = 1
IDLE_SLACK_SECONDS = 2.0
"""A jump of the idle time by more than this is a change."""
FINE_SECONDS, COARSE_SECONDS = 1.0, 5.0
"""How often the board is looked at while a dwell may run, and when only the idle time goes on."""
LONGEST_SECONDS = 10 * 366 * 86400.0
"""A trace that claims to be longer is none."""
LATEST_WALL = 253_402_300_800.0
"""The year 10000, which no calendar of the C library needs to know."""

Readings = dict[str, float | bool | None]
log = logging.getLogger(__name__)


class TraceWriter:
    """Writes what is sensed, where it changed."""

    def __init__(self, path: Path, now: Instant) -> None:
        """Begin a trace. Raises `UsageError` when the file cannot be written."""
        try:
            self._file: IO[str] | None = path.open("w", encoding="ascii")
        except OSError as error:
            raise UsageError(f"Cannot write the trace {path}: {error.strerror}.") from error
        self._start = now.monotonic
        self._last: Readings = {}
        self._idle_base: float | None = None
        self._write({"trace": VERSION, "wall": round(now.wall, 3)})

    def note(self, conditions: Conditions) -> None:
        """Keep one look if it differs from the last."""
        at = conditions.at.monotonic - self._start
        readings = {name: _whole(conditions.reading(name).value) for name in SENSED}
        idle = readings.pop("user_idle")
        base = None if idle is None else float(idle) - at
        has_jumped = (base is None) != (self._idle_base is None) or (
            base is not None and self._idle_base is not None and abs(base - self._idle_base) > IDLE_SLACK_SECONDS
        )
        if readings != self._last or has_jumped:
            self._last, self._idle_base = readings, base
            self._write({"at": round(at, 1), "readings": {**readings, "user_idle": idle}})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            log.warning("the trace is not written any more: %s", error.strerror)
            with contextlib.suppress(OSError):  # it tries to write once more
                self._file.close()
            self._file = None


def _whole(value: Any) -> float | bool | None:
    return value if value is None or isinstance(value, bool) else float(round(value))


@dataclass(frozen=True)
class Line:
    """From `at` (seconds since the trace began) on the board felt like this."""

    at: float
    readings: Readings
    wall: float = 0.0
    """Seconds since 1970, then."""


@dataclass(frozen=True)
class Transition:
    at: float
    state: State
    reasons: tuple[str, ...]


def read_trace(path: Path) -> list[Line]:
    """Read a whole trace. Raises `InputRefused` naming the line that is none; a half last line is left out."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise InputRefused(f"Cannot read the trace {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputRefused(f"{path} is no trace; `mmd run --record FILE` writes one.") from error
    lines = text.split("\n")[:-1]
    head = _parsed(path, 1, lines[0]) if lines else {}
    if head.get("trace") != VERSION:
        raise InputRefused(f"{path} is no trace of version {VERSION}; `mmd run --record FILE` writes one.")
    began = head.get("wall")
    wall = float(began) if isinstance(began, int | float) and 0 <= began < LATEST_WALL else 0.0
    found: list[Line] = []
    for number, line in enumerate(lines[1:], 2):
        value = _parsed(path, number, line)
        at, readings = value.get("at"), value.get("readings")
        if (
            not isinstance(at, int | float)
            or not 0 <= at <= LONGEST_SECONDS
            or not isinstance(readings, dict)
            or (found and at < found[-1].at)
            or not all(_fits(name, reading) for name, reading in readings.items())
        ):
            raise InputRefused(f"{path}, line {number}: no time and readings in order; cut the file before it.")
        found.append(Line(float(at), readings, wall + at))
    return found


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputRefused(f"{path}, line {number}: not a JSON object; cut the file before it.")
    return value


def _fits(name: str, value: object) -> bool:
    return name in SENSED and (
        value is None or (isinstance(value, bool) if name == "external_power" else type(value) in (int, float))
    )


def replay(lines: Iterable[Line], config: Config) -> Iterator[Transition]:
    """Run policy and state machine over a trace as if there were always work, and yield each change."""
    state, tracker = transition(State.IDLE, Event.WORK_FOUND), Tracker()
    account = Account(config.conditions.duty_cycle)
    said: tuple[State, tuple[str, ...]] | None = None
    for line, at in _looks(list(lines), config):
        usage = account.turn(_instant(line, at), was_running=state in RUNNING)
        conditions = conditions_at(line, at, config.conditions, usage)
        tracker = look(tracker, conditions, config.conditions)
        facts = Facts(is_running=state in RUNNING, trainable=10**9, new=10**9)
        reasons = decide(conditions, facts, config, tracker=tracker, mode=Mode.AUTO, now=conditions.at)
        if reasons and state in RUNNING:
            state = transition(state, Event.SUSPENDED)
            reasons = decide(
                conditions,
                Facts(trainable=10**9, new=10**9),
                config,
                tracker=tracker,
                mode=Mode.AUTO,
                now=conditions.at,
            )
        elif not reasons and state not in RUNNING:
            state = transition(state, Event.STARTED)
        tracker = remember(tracker, reasons, conditions.at)
        codes = tuple(reason.code.value for reason in reasons)
        if (state, codes) != said:
            said = state, codes
            yield Transition(conditions.at.monotonic, state, codes)


class Account:
    """Reckons what training used in a replay. A trace knows no power meter."""

    def __init__(self, duty_cycle: DutyCycle) -> None:
        self._duty_cycle = duty_cycle
        self._bucket: TokenBucket | None = None
        self._last: Instant | None = None
        self._usage = Usage()

    def turn(self, now: Instant, *, was_running: bool) -> Usage:
        """Return what was used up to now; `was_running` says what happened since the last turn."""
        last = self._last or now
        passed = now.monotonic - last.monotonic if was_running else 0.0
        is_same_day = time.localtime(now.wall)[:3] == time.localtime(last.wall)[:3]
        self._bucket, self._last = turn(self._bucket, self._duty_cycle, now, was_running=was_running), now
        self._usage = Usage(
            run_seconds=self._usage.run_seconds + passed if was_running else 0.0,
            minutes_trained_today=(self._usage.minutes_trained_today if is_same_day else 0.0) + passed / 60,
            duty_percent=self._bucket.percent(self._duty_cycle),
        )
        return self._usage


def _looks(lines: list[Line], config: Config) -> Iterator[tuple[Line, float]]:
    """Look at the board at every line, and in between as long as something may come of it."""
    sections = [getattr(config.conditions, name) for name in config.conditions.__struct_fields__]
    longest = max(getattr(section, "dwell_seconds", 0.0) for section in sections)
    ends = [line.at for line in lines[1:]] + [line.at for line in lines[-1:]]
    for line, end in zip(lines, ends, strict=True):
        at = line.at
        while True:
            yield line, at
            at += FINE_SECONDS if at - line.at <= longest + FINE_SECONDS else COARSE_SECONDS
            if at >= end:
                break


def _instant(line: Line, at: float) -> Instant:
    return Instant(wall=line.wall + at - line.at, monotonic=at)


def conditions_at(line: Line, at: float, limits: ConditionsConfig | None = None, usage: Usage = NO_USAGE) -> Conditions:
    """Return what the board felt like at a moment after `line` and before the next."""
    readings = dict(line.readings)
    idle = readings.get("user_idle")
    if idle is not None:
        readings["user_idle"] = idle + at - line.at
    told: dict[str, Any] = {name: Reading(readings.get(name), "the trace") for name in SENSED}
    now = _instant(line, at)
    return Conditions(at=now, **told, **reckoned(now, limits or ConditionsConfig(), usage))
