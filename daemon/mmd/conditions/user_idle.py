"""For how many seconds has nobody touched the board? `None` on a headless board, which counts as idle.

Three sources, and the newest activity of all decides:
1. graphical sessions of which logind says whether their user went away, and when;
2. the access times of terminals (virtual consoles, serial consoles, pseudo-terminals), which the kernel moves
   when somebody types;
3. the reports of keyboards, mice, touch panels and buttons, for desktops that tell logind nothing.
A board with none of them has nobody in front of it.

Access times are by the wall clock, so only the first look reckons with them; from then on a terminal was used when its
access time moved, and clocks may jump.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmd.conditions.input_devices import InputDevices, count_reports
from mmd.conditions.reading import Instant, Reading, list_folder, read_text

CLOCK_SLACK_SECONDS = 60.0
"""An access time further in the future than this was set by a clock that jumped."""
LISTED_SECONDS = 10.0
"""How often consoles in the background and new devices are looked for; the others are looked at every time."""

_CONSOLE = re.compile(r"tty\d+")


class Session(msgspec.Struct, frozen=True):
    """A graphical session, as its desktop told logind."""

    name: str
    idle_since: float | None
    """Monotonic seconds; `None` while somebody uses it."""


class Used(msgspec.Struct, frozen=True):
    """When something was last used, in monotonic seconds, and what it was."""

    at: float
    what: str


class Activity(msgspec.Struct, frozen=True):
    """What the last look saw, so that the next one notices what moved."""

    listed_at: float
    """Monotonic, when all terminals were looked at."""
    terminals: dict[str, float]
    """Their access times, by the wall clock."""
    terminal: Used | None = None
    """The newest use of any terminal."""
    devices: InputDevices | None = None
    reports: int | None = None
    """How often input devices reported; `None` without any."""
    input: Used | None = None
    """The newest of them; while none was seen, the first look."""
    has_input_moved: bool = False
    problems: tuple[str, ...] = ()


def read(
    root: Path, now: Instant, previous: Activity | None, sessions: Sequence[Session] = ()
) -> tuple[Reading[float], Activity]:
    """Return the idle time, and what the next call must be given."""
    activity = _input(root, now, _terminals(root, now, previous), previous)
    found = [Used(now.monotonic if each.idle_since is None else each.idle_since, each.name) for each in sessions]
    if activity.terminal is not None:
        found.append(activity.terminal)
    # Nobody knows what was before the first look: without anything else idle time starts with it.
    if activity.input is not None and (activity.has_input_moved or not found):
        found.append(activity.input)
    if not found:
        return Reading(None, "headless: no session, terminal or input device", activity.problems), activity
    newest = max(found, key=lambda used: used.at)
    return Reading(max(0.0, now.monotonic - newest.at), newest.what, activity.problems), activity


def _terminals(root: Path, now: Instant, previous: Activity | None) -> Activity:
    """Look at the access times: at those of all terminals now and then, of those that people type on always."""
    in_front = _in_front(root)
    is_full = previous is None or not in_front or now.monotonic - previous.listed_at >= LISTED_SECONDS
    times = {} if previous is None or is_full else dict(previous.terminals)
    consoles = [name for name in list_folder(f"{root}/dev") if _CONSOLE.fullmatch(name)] if is_full else []
    pseudo = [f"pts/{name}" for name in list_folder(f"{root}/dev/pts") if name.isdigit()]
    looked_at = {*consoles, *pseudo, *in_front}
    for name in looked_at:
        try:
            times[name] = os.stat(f"{root}/dev/{name}").st_atime  # noqa: PTH116 (a board has dozens of them)
        except OSError:
            times.pop(name, None)  # the session ended between listing and looking, or the console has no device
    if previous is None:
        return _first_look(now, times)
    moved = [name for name in looked_at if name in times and times[name] != previous.terminals.get(name)]
    used = Used(now.monotonic, f"/dev/{max(moved, key=times.__getitem__)}") if moved else previous.terminal
    listed_at = now.monotonic if is_full else previous.listed_at
    return Activity(listed_at, times, used if times else None, problems=() if moved else previous.problems)


def _first_look(now: Instant, times: dict[str, float]) -> Activity:
    """Reckon with the wall clock, since nothing else tells of the time before."""
    latest = now.wall + CLOCK_SLACK_SECONDS
    problems = [f"/dev/{name} was used in the future; did the clock jump?" for name, at in times.items() if at > latest]
    past = [(at, name) for name, at in times.items() if at <= latest]
    if not past:
        return Activity(now.monotonic, times, problems=tuple(problems))
    at, name = max(past)
    return Activity(
        now.monotonic, times, Used(now.monotonic - max(0.0, now.wall - at), f"/dev/{name}"), problems=tuple(problems)
    )


def _in_front(root: Path) -> list[str]:
    """Return the consoles that show on a screen or a serial line: nobody types on another."""
    files = ("sys/class/tty/console/active", "sys/class/tty/tty0/active")
    return [console.rpartition("/")[2] for file in files for console in (read_text(f"{root}/{file}") or "").split()]


def _input(root: Path, now: Instant, activity: Activity, previous: Activity | None) -> Activity:
    """Fold the reports of input devices, which are searched for as often as consoles are."""
    is_known = previous is not None and activity.listed_at == previous.listed_at
    count, devices = count_reports(root, previous.devices if previous is not None and is_known else None)
    if count is None:
        return msgspec.structs.replace(activity, devices=devices)
    has_moved = previous is not None and previous.reports not in (None, count)
    if previous is None or previous.input is None or has_moved:
        used = Used(now.monotonic, "input devices" if has_moved else "input devices, since the daemon looks")
    else:
        used = previous.input
    return msgspec.structs.replace(
        activity,
        devices=devices,
        reports=count,
        input=used,
        has_input_moved=has_moved or (previous is not None and previous.has_input_moved),
    )
