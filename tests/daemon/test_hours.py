"""Is a window of the week open when its owner expects, over midnight and over daylight saving too?"""

import time
from collections.abc import Iterator

import pytest

from mmd.hours import local_minute, next_opening, parse_window

MON, TUE, FRI, SAT, SUN = 0, 1, 4, 5, 6


def minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Central European Time with its changes, written out: a machine may have no table of zones.
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "day", "clock", "is_open"),
    [
        ("09:00-17:00", MON, "09:00", True),
        ("09:00-17:00", MON, "16:59", True),
        ("09:00-17:00", MON, "17:00", False),
        ("09:00-17:00", SUN, "08:59", False),
        ("22:00-07:00", MON, "22:00", True),
        ("22:00-07:00", TUE, "06:59", True),
        ("22:00-07:00", TUE, "07:00", False),
        ("fri 22:00-07:00", SAT, "03:00", True),
        ("fri 22:00-07:00", FRI, "03:00", False),
        ("fri 22:00-07:00", SAT, "23:00", False),
        ("sun 22:00-07:00", MON, "03:00", True),
        ("sat,sun 00:00-24:00", SUN, "23:59", True),
        ("sat,sun 00:00-24:00", MON, "00:00", False),
        ("sat-mon 10:00-11:00", MON, "10:30", True),
        ("SAT-MON  10:00 - 11:00", SUN, "10:30", True),
        ("sat-mon 10:00-11:00", TUE, "10:30", False),
    ],
)
def test_a_window_is_open_in_its_hours_and_on_its_days(text: str, day: int, clock: str, is_open: bool) -> None:
    assert parse_window(text).contains(day, minute(clock)) is is_open


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not written like"),
        ("at night", "not written like"),
        ("22-07", "not written like"),
        ("22:00-07:00-08:00", "not written like"),
        ("25:00-07:00", "25:00 is no time"),
        ("22:60-07:00", "22:60 is no time"),
        ("24:00-07:00", "begins before 24:00"),
        ("07:00-07:00", "empty"),
        ("frid 07:00-08:00", "'frid' is no day"),
        ("mon- 07:00-08:00", "'mon-' is no day"),
        ("mon,,tue 07:00-08:00", "'' is no day"),
    ],
)
def test_what_is_no_window_is_refused_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_window(text)


@pytest.mark.parametrize(
    ("day", "clock", "opens"),
    [(MON, "12:00", "22:00"), (FRI, "21:59", "22:00"), (FRI, "22:00", "mon 22:00"), (SAT, "09:00", "mon 22:00")],
)
def test_the_next_opening_is_told(day: int, clock: str, opens: str) -> None:
    assert next_opening([parse_window("mon-fri 22:00-07:00")], day, minute(clock)) == opens


@pytest.mark.usefixtures("berlin")
def test_the_local_clock_decides_on_both_sides_of_a_change_of_daylight_saving() -> None:
    window = parse_window("02:00-03:00")
    spring, autumn = 1_774_746_000, 1_792_886_400  # 29 March 2026, 02:00 CET; 25 October 2026, 02:00 CEST
    assert [local_minute(spring + step) for step in (-60, 0)] == [(SUN, 119), (SUN, 180)]
    assert not any(window.contains(*local_minute(spring + 60 * step)) for step in range(-60, 120))
    opened = sum(window.contains(*local_minute(autumn + 60 * step)) for step in range(-60, 240))
    assert opened == 120


@pytest.mark.usefixtures("berlin")
def test_a_zone_that_changes_while_the_daemon_runs_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_minute(0) == (3, 60)
    monkeypatch.setenv("TZ", "UTC0")
    assert local_minute(0) == (3, 0)
