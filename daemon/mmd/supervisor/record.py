"""What of all that the daemon sees is worth keeping? Changes always; conditions now and then.

A history that cannot be written is named once and costs nothing else: on a full disk the daemon runs without one, and
takes it up when there is room.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmd.artifact.review import Review
from mmd.conditions import Conditions, Instant
from mmd.conditions.kinds import CONDITIONS
from mmd.errors import MmdError, StoreDamaged
from mmd.policy import Reason
from mmd.promotion.outcome import RoundOutcome
from mmd.supervisor.history import KEPT_SECONDS, History, open_to_write
from mmd.supervisor.states import State

OPEN_ROUND_SECONDS = 10.0
"""Conditions are kept at most this often while a round is open, and whenever a yes turned into a no."""
QUIET_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""Between two attempts to open a history that could not be opened, for want of room or otherwise."""
_DAY_SECONDS = 86400.0

Readings = dict[str, float | bool | None]
log = logging.getLogger(__name__)


class Recorder:
    """Writes to the history what changed since the last look."""

    def __init__(self, path: Path, now: Instant) -> None:
        """Open the history at `path`. Raises `StoreDamaged` when even a new one in its place is none."""
        self._path = path
        self._history: History | None = None
        self._has_complained = False
        self._state: State | None = None
        self._codes: tuple[str, ...] = ()
        self._readings: Readings = {}
        self._sampled_at: float | None = None
        self._open(now)

    def _open(self, now: Instant) -> None:
        """Open the history, so that all which holds now is written to it; where that cannot be, try again later."""
        self._tried_at = now.monotonic
        try:
            self._history = open_to_write(self._path)
        except StoreDamaged:
            raise
        except MmdError as error:
            self._complain(f"{error} Until then nothing is recorded.")
            return
        self._state, self._codes, self._readings = None, (), {}
        self._drop_old(now)
        self._write(_close_what_was_killed, now)

    def _drop_old(self, now: Instant) -> None:
        self._write(History.drop_before, now.wall - KEPT_SECONDS)
        self._dropped_at = now.monotonic

    def note(
        self,
        state: State,
        reasons: Sequence[Reason],
        conditions: Conditions,
        *,
        round_number: int | None,
        step: int | None,
        now: Instant,
    ) -> None:
        """Keep one look: the state and the reasons when they changed, the conditions when it is time."""
        if self._history is None and now.monotonic - self._tried_at >= RETRY_SECONDS:
            self._open(now)
        if self._history is None:
            return
        codes = tuple(sorted(reason.code.value for reason in reasons))
        if (state, codes) != (self._state, self._codes):
            self._note_reasons(reasons, now)
            self._write(History.add_state, now.wall, state, codes, round_number=round_number, step=step)
            self._state, self._codes = state, codes
        self._note_conditions(conditions, now, is_round_open=round_number is not None)
        if now.monotonic - self._dropped_at >= _DAY_SECONDS:
            self._drop_old(now)

    def _note_reasons(self, reasons: Sequence[Reason], now: Instant) -> None:
        held = {reason.code.value: reason for reason in reasons}
        for code in set(self._codes) - set(held):
            self._write(History.end_reason, code, now.wall)
        for code in held.keys() - set(self._codes):
            reason = held[code]
            self._write(History.begin_reason, reason.code, reason.message, reason.since)

    def _note_conditions(self, conditions: Conditions, now: Instant, *, is_round_open: bool) -> None:
        readings = _rounded(conditions)
        flags = {name: value for name, value in readings.items() if isinstance(value, bool)}
        has_flipped = any(self._readings.get(name) is not value for name, value in flags.items())
        rest = OPEN_ROUND_SECONDS if is_round_open else QUIET_SECONDS
        is_time = self._sampled_at is None or now.monotonic - self._sampled_at >= rest
        if has_flipped or (is_time and readings != self._readings):
            self._write(History.add_conditions, now.wall, readings)
            self._readings, self._sampled_at = readings, now.monotonic

    def begin_round(self, number: int, now: Instant) -> None:
        self._write(History.begin_round, number, now.wall)

    def end_round(self, outcome: RoundOutcome) -> None:
        self._write(History.end_round, outcome.round, outcome.finished, outcome.outcome, outcome.reason)

    def event(self, name: str, detail: str, now: Instant) -> None:
        self._write(History.add_event, now.wall, name, detail)

    def taken_back(self, review: Review, now: Instant) -> None:
        """Note that a model failed its probation and the one before it serves again."""
        self.event("taken_back", f"Generation {review.generation}. {review.reason}", now)

    def stop(self, now: Instant) -> None:
        """Close every open reason and note that the daemon ended."""
        self._write(History.end_every_reason, now.wall)
        self._write(History.add_state, now.wall, "stopped", (), round_number=None, step=None)
        if self._history is not None:
            self._history.close()

    def _write(self, write: Callable[..., None], *values: Any, **named: Any) -> None:
        if self._history is None:
            return
        try:
            write(self._history, *values, **named)
        except StoreDamaged as error:
            self._complain(str(error))
        else:
            self._has_complained = False

    def _complain(self, complaint: str) -> None:
        if not self._has_complained:
            log.warning("%s", complaint)
        self._has_complained = True


def _close_what_was_killed(history: History, now: Instant) -> None:
    """Note the end of a daemon that could not do so itself, at its last sign of life."""
    last = history.last_state()
    if last is not None and last.state != "stopped":
        at = min(history.last_sign_of_life(), now.wall)
        history.add_state(at, "stopped", (), round_number=None, step=None)
        history.end_every_reason(at)
    history.end_every_reason(now.wall)


def _rounded(conditions: Conditions) -> Readings:
    """Return the readings coarse enough that noise is no change."""
    readings: Readings = {}
    for name in CONDITIONS:
        value = conditions.reading(name).value
        readings[name] = value if value is None or isinstance(value, bool) else round(value, 1)
    return readings
