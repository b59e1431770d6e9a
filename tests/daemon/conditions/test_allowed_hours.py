"""Does the local clock decide whether training may run?"""

import time
from collections.abc import Iterator

import pytest

from mmd.conditions import Instant, allowed_hours
from mmd.limits import AllowedHours

HOUR = 3600.0
NIGHTS = AllowedHours(windows=("mon-fri 22:00-07:00", "sun 00:00-24:00"))


@pytest.fixture(autouse=True)
def universal_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    yield
    monkeypatch.undo()
    time.tzset()


def at(hours: float) -> Instant:
    """So many hours after Thursday, 1 January 1970, 00:00."""
    return Instant(wall=hours * HOUR, monotonic=0.0)


def test_without_windows_every_hour_is_allowed() -> None:
    assert allowed_hours.read(at(12), AllowedHours()).value is True


def test_within_any_of_the_windows_training_may_run() -> None:
    reading = allowed_hours.read(at(23), NIGHTS)
    assert (reading.value, reading.detail) == (True, "it is thu 23:00, within mon-fri 22:00-07:00")
    assert allowed_hours.read(at(3 * 24 + 12), NIGHTS).value is True


@pytest.mark.parametrize(("hours", "opens"), [(12, "22:00"), (2 * 24 + 8, "00:00"), (4 * 24 + 8, "22:00")])
def test_outside_the_windows_it_may_not_and_is_told_when(hours: float, opens: str) -> None:
    reading = allowed_hours.read(at(hours), NIGHTS)
    assert reading.value is False
    assert reading.detail.endswith(f"training may run again from {opens}")


def test_a_wall_clock_that_jumps_is_followed_at_the_next_look() -> None:
    assert [allowed_hours.read(at(hours), NIGHTS).value for hours in (12, 23, 12)] == [False, True, False]
