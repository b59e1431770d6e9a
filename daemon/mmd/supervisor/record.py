"""What of all that the daemon sees is worth keeping? Changes always; conditions now and then.

A history that cannot be written is named once and costs nothing else.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from mmd.artifact.review import Review
from mmd.conditions import Conditions, Instant
from mmd.conditions.kinds import CONDITIONS
from mmd.errors import StoreDamaged
from mmd.policy import Reason
from mmd.promotion.outcome import RoundOutcome
from mmd.supervisor.history import KEPT_SECONDS, History
from mmd.supervisor.states import State

OPEN_ROUND_SECONDS = 10.0
"""Conditions are kept at most this often while a round is open, and whenever a yes turned into a no."""
QUIET_SECONDS = 60.0
_DAY_SECONDS = 86400.0

Readings = dict[str, float | bool | None]
log = logging.getLogger(__name__)


class Recorder:
    """Writes to the history what changed since the last look."""

    def __init__(self, history: History, now: Instant) -> None:
        self._history = history
        self._has_complained = False
        self._state: State | None = None
        self._codes: tuple[str, ...] = ()
        self._readings: Readings = {}
        self._sampled_at: float | None = None
        self._drop_old(now)
        self._write(self._close_what_was_killed, now)

    def _drop_old(self, now: Instant) -> None:
        self._write(self._history.drop_before, now.wall - KEPT_SECONDS)
        self._dropped_at = now.monotonic

    def _close_what_was_killed(self, now: Instant) -> None:
        """Note the end of a daemon that could not do so itself, at its last sign of life."""
        last = self._history.last_state()
        if last is not None and last.state != "stopped":
            at = min(self._history.last_sign_of_life(), now.wall)
            self._history.add_state(at, "stopped", (), round_number=None, step=None)
            self._history.end_every_reason(at)
        self._history.end_every_reason(now.wall)

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
        codes = tuple(sorted(reason.code.value for reason in reasons))
        if (state, codes) != (self._state, self._codes):
            self._note_reasons(reasons, now)
            self._write(self._history.add_state, now.wall, state, codes, round_number=round_number, step=step)
            self._state, self._codes = state, codes
        self._note_conditions(conditions, now, is_round_open=round_number is not None)
        if now.monotonic - self._dropped_at >= _DAY_SECONDS:
            self._drop_old(now)

    def _note_reasons(self, reasons: Sequence[Reason], now: Instant) -> None:
        held = {reason.code.value: reason for reason in reasons}
        for code in set(self._codes) - set(held):
            self._write(self._history.end_reason, code, now.wall)
        for code in held.keys() - set(self._codes):
            reason = held[code]
            self._write(self._history.begin_reason, reason.code, reason.message, reason.since)

    def _note_conditions(self, conditions: Conditions, now: Instant, *, is_round_open: bool) -> None:
        readings = _rounded(conditions)
        flags = {name: value for name, value in readings.items() if isinstance(value, bool)}
        has_flipped = any(self._readings.get(name) is not value for name, value in flags.items())
        rest = OPEN_ROUND_SECONDS if is_round_open else QUIET_SECONDS
        is_time = self._sampled_at is None or now.monotonic - self._sampled_at >= rest
        if has_flipped or (is_time and readings != self._readings):
            self._write(self._history.add_conditions, now.wall, readings)
            self._readings, self._sampled_at = readings, now.monotonic

    def begin_round(self, number: int, now: Instant) -> None:
        self._write(self._history.begin_round, number, now.wall)

    def end_round(self, outcome: RoundOutcome) -> None:
        self._write(self._history.end_round, outcome.round, outcome.finished, outcome.outcome, outcome.reason)

    def event(self, name: str, detail: str, now: Instant) -> None:
        self._write(self._history.add_event, now.wall, name, detail)

    def taken_back(self, review: Review, now: Instant) -> None:
        """Note that a model failed its probation and the one before it serves again."""
        self.event("taken_back", f"Generation {review.generation}. {review.reason}", now)

    def stop(self, now: Instant) -> None:
        """Close every open reason and note that the daemon ended."""
        self._write(self._history.end_every_reason, now.wall)
        self._write(self._history.add_state, now.wall, "stopped", (), round_number=None, step=None)
        self._history.close()

    def _write(self, write: Callable[..., None], *values: Any, **named: Any) -> None:
        try:
            write(*values, **named)
        except StoreDamaged as error:
            if not self._has_complained:
                log.warning("%s", error)
            self._has_complained = True
        else:
            self._has_complained = False


def _rounded(conditions: Conditions) -> Readings:
    """Return the readings coarse enough that noise is no change."""
    readings: Readings = {}
    for name in CONDITIONS:
        value = conditions.reading(name).value
        readings[name] = value if value is None or isinstance(value, bool) else round(value, 1)
    return readings
