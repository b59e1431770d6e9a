"""When in the week is a window of hours open? By the clock on the wall, whatever daylight saving does to it.

A window is written `22:00-07:00`, or with days: `mon-fri 22:00-07:00`, `sat,sun 00:00-24:00`. One that ends before it
begins goes over midnight and belongs to the day on which it begins. The hands of the local clock decide: a window in
an hour that daylight saving leaves out does not open on that day, and one in the hour that comes twice opens twice.
"""

import re
import time
from collections.abc import Iterable

import msgspec

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * DAY_MINUTES
_WINDOW = re.compile(r"(?:(?P<days>[a-z,\- ]+) )?(?P<begin>\d\d:\d\d) ?- ?(?P<end>\d\d:\d\d)")


class Window(msgspec.Struct, frozen=True):
    days: frozenset[int]
    """0 is Monday."""
    begin: int
    """Minutes since midnight."""
    end: int
    """Minutes since midnight, 24:00 too; not after `begin` for a window that goes over midnight."""

    def contains(self, day: int, minute: int) -> bool:
        """Return whether the window is open at this minute of this day of the week."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


def parse_window(text: str) -> Window:
    """Read one window. Raises `ValueError` saying what is wrong with it."""
    found = _WINDOW.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise ValueError('it is not written like "22:00-07:00" or "mon-fri 22:00-07:00"')
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin == DAY_MINUTES:
        raise ValueError("a window begins before 24:00")
    if begin == end:
        raise ValueError("it is empty: it ends when it begins")
    return Window(_days(found["days"]), begin, end)


def local_minute(wall: float) -> tuple[int, int]:
    """Return the day of the week and the minute of the day that the local clock shows at `wall`."""
    time.tzset()  # a board that travels: the zone may have changed since this process began
    local = time.localtime(wall)
    return local.tm_wday, local.tm_hour * 60 + local.tm_min


def next_opening(windows: Iterable[Window], day: int, minute: int) -> str:
    """Return when the first of the windows opens after this minute, as `22:00` or `sat 00:00`."""
    now = day * DAY_MINUTES + minute
    openings = [each * DAY_MINUTES + window.begin for window in windows for each in window.days]
    wait = min((opening - now - 1) % _WEEK_MINUTES + 1 for opening in openings)
    opens_day, opens_minute = divmod((now + wait) % _WEEK_MINUTES, DAY_MINUTES)
    clock = f"{opens_minute // 60:02d}:{opens_minute % 60:02d}"
    return clock if wait < DAY_MINUTES else f"{DAYS[opens_day]} {clock}"


def _minutes(clock: str) -> int:
    hours, minutes = int(clock[:2]), int(clock[3:])
    if minutes >= 60 or hours * 60 + minutes > DAY_MINUTES:
        raise ValueError(f"{clock} is no time of the day")
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    """Read `mon-fri,sun`; a range may go over the end of the week."""
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} is no day or range of days (mon, tue, wed, thu, fri, sat, sun)")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        days.update((begin + step) % 7 for step in range(length + 1))
    return frozenset(days)
