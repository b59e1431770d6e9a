"""What has training used today, in this run and for this round? The account that budgets are judged by.

It is kept on disk, so that neither a restart nor a clock that jumps makes a budget anew: each day of the local clock
has its own entry, and time is measured by a clock that stands still while the machine sleeps. A crash costs the
account at most `SAVE_SECONDS`.
"""

import logging
from pathlib import Path

import msgspec

from mmd import durable
from mmd.conditions import Instant, Usage
from mmd.conditions.energy import EnergyReading, read_energy, watt_hours_between
from mmd.layout import StateDir, round_folder
from mmd.limits import DutyCycle
from mmd.policy.duty_cycle import TokenBucket, turn
from mmd.supervisor.accounts import COST_NAME, Cost, day_of, round_cost, saved_account

SAVE_SECONDS = 60.0
METER_SECONDS = 1.0
"""Between two looks at the power meter."""
KEPT_DAYS = 8

log = logging.getLogger(__name__)


class Ledger:
    """Keeps the account of one state folder."""

    def __init__(self, state_dir: StateDir, now: Instant) -> None:
        self._state_dir = state_dir
        self._account = saved_account(state_dir)
        self._bucket: TokenBucket | None = None
        self._round: int | None = None
        self._cost = Cost()
        self._run_began: float | None = None
        self._turned = self._saved = now.awake
        self._metered = 0.0
        self._meter: EnergyReading | None = None
        self._is_unsaved = False
        self._has_complained = False

    def turn(self, now: Instant, *, round_number: int | None, limits: DutyCycle, root: Path) -> Usage:
        """Enter what happened since the last turn; `round_number` is the round that ran since, if one did."""
        at = now.awake
        passed, self._turned = max(0.0, at - self._turned), at
        is_running = round_number is not None
        watt_hours = self._watt_hours(at, root, is_running=is_running)
        self._turn_bucket(Instant(now.wall, at), limits, is_running=is_running)
        day = day_of(now)
        if round_number is not None:
            if round_number != self._round:
                self._open(round_number)
            self._cost = self._cost.plus(passed, watt_hours)
            days = {**self._account.days, day: self._account.days.get(day, Cost()).plus(passed, watt_hours)}
            self._account = msgspec.structs.replace(self._account, days=dict(sorted(days.items())[-KEPT_DAYS:]))
            self._is_unsaved = True
        if not is_running:
            self._run_began = None
        elif self._run_began is None:
            self._run_began = at - passed
        today = self._account.days.get(day, Cost())
        return Usage(
            run_seconds=0.0 if self._run_began is None else at - self._run_began,
            minutes_trained_today=today.seconds / 60,
            watt_hours_today=today.watt_hours,
            duty_percent=None if self._bucket is None else self._bucket.percent(limits),
        )

    def _watt_hours(self, at: float, root: Path, *, is_running: bool) -> float | None:
        """Return what the board used since the meter was last looked at."""
        if not is_running:
            self._meter = None
            return None
        if self._meter is not None and at - self._metered < METER_SECONDS:
            return None
        before, self._meter = self._meter, read_energy(root)
        used = watt_hours_between(before, self._meter, at - self._metered)
        self._metered = at
        return used

    def _turn_bucket(self, now: Instant, limits: DutyCycle, *, is_running: bool) -> None:
        if self._bucket is None and self._account.duty_seconds is not None:
            # What an earlier daemon left, filled for the time since; a clock that jumped back gives nothing.
            since = max(0.0, now.wall - self._account.saved)
            left = TokenBucket(self._account.duty_seconds, now.monotonic - since)
            self._bucket = turn(left, limits, now, was_running=False)
        self._bucket = turn(self._bucket, limits, now, was_running=is_running)

    def _open(self, number: int) -> None:
        self._save_cost()
        self._round, self._cost = number, round_cost(self._state_dir, number)

    def cost_of(self, number: int) -> Cost:
        """Return what round `number` used so far."""
        return self._cost if number == self._round else round_cost(self._state_dir, number)

    def save_if_due(self, now: Instant) -> None:
        """Put the account on disk now and then; disks are slow, so not before what is more urgent."""
        if self._is_unsaved and now.awake - self._saved >= SAVE_SECONDS:
            self.save(now)

    def save(self, now: Instant) -> None:
        """Put the account on disk. One that cannot be written is named once and costs nothing else."""
        self._saved, self._is_unsaved = now.awake, False
        seconds = None if self._bucket is None else self._bucket.seconds
        self._account = msgspec.structs.replace(self._account, duty_seconds=seconds, saved=now.wall)
        try:
            durable.write_bytes(self._state_dir.ledger_file, msgspec.json.encode(self._account) + b"\n")
            self._save_cost()
            self._has_complained = False
        except OSError as error:
            if not self._has_complained:
                log.warning("cannot write %s: %s", self._state_dir.ledger_file, error.strerror)
            self._has_complained = True

    def _save_cost(self) -> None:
        if self._round is not None:
            folder = round_folder(self._state_dir, self._round)
            if folder.is_dir():
                durable.write_bytes(folder / COST_NAME, msgspec.json.encode(self._cost) + b"\n")
