"""What has training used today, and for a round? As it was last put on disk: nobody needs a daemon to read it."""

import time
from pathlib import Path
from typing import TypeVar

import msgspec

from mmd.conditions import Instant, Usage
from mmd.layout import StateDir, round_folder

COST_NAME = "cost.json"

_Kept = TypeVar("_Kept", bound=msgspec.Struct)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What some training used."""

    seconds: float = 0.0
    """Of the trainer's running."""
    watt_hours: float | None = None
    """Of the whole board meanwhile; `None` where no meter told."""

    def plus(self, seconds: float, watt_hours: float | None) -> "Cost":
        more = self.watt_hours if watt_hours is None else (self.watt_hours or 0.0) + watt_hours
        return Cost(seconds=self.seconds + seconds, watt_hours=more)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `ledger.json`."""

    days: dict[str, Cost] = {}
    """By the date of the local clock, as 2026-11-22."""
    duty_seconds: float | None = None
    """What was left in the duty cycle's bucket at `saved`; `None`: it was full."""
    saved: float = 0.0
    """Seconds since 1970."""


def round_cost(state_dir: StateDir, number: int) -> Cost:
    """Return what round `number` used, as it was last put on disk."""
    return _read(round_folder(state_dir, number) / COST_NAME, Cost) or Cost()


def saved_account(state_dir: StateDir) -> Account:
    """Return the whole account; an empty one when there is none that can be read."""
    return _read(state_dir.ledger_file, Account) or Account()


def saved_usage(state_dir: StateDir, now: Instant) -> Usage:
    """Return what was used today, as it was last put on disk."""
    today = saved_account(state_dir).days.get(day_of(now), Cost())
    return Usage(minutes_trained_today=today.seconds / 60, watt_hours_today=today.watt_hours)


def day_of(now: Instant) -> str:
    """Return the date of the local clock, as 2026-11-22."""
    return time.strftime("%Y-%m-%d", time.localtime(now.wall))


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
