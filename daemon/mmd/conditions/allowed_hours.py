"""Is this an hour of the week in which the owner lets the board train? By the local clock."""

from mmd.conditions.reading import Instant, Reading
from mmd.hours import DAYS, local_minute, next_opening, parse_window
from mmd.limits import AllowedHours


def read(now: Instant, limits: AllowedHours) -> Reading[bool]:
    """Return whether one of the windows is open; without any every hour is allowed."""
    if not limits.windows:
        return Reading(True, "every hour is allowed")
    windows = {text: parse_window(text) for text in limits.windows}
    day, minute = local_minute(now.wall)
    clock = f"{DAYS[day]} {minute // 60:02d}:{minute % 60:02d}"
    for text, window in windows.items():
        if window.contains(day, minute):
            return Reading(True, f"it is {clock}, within {text}")
    return Reading(False, f"it is {clock}; training may run again from {next_opening(windows.values(), day, minute)}")
