"""For how many seconds has nobody touched the board? `None` on a headless board, which counts as idle.

Three sources, and the newest activity of all decides:
1. graphical sessions of which logind says whether their user went away, and when;
2. the access times of terminals (virtual consoles, serial consoles, pseudo-terminals), which the kernel moves
   when somebody types;
3. the interrupts of keyboards, mice, touch panels and buttons, for desktops that tell logind nothing.
A board with none of them has nobody in front of it.

Access times are by the wall clock, so only the first look reckons with them; from then on a terminal was used when its
access time moved, and clocks may jump.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmd.conditions.reading import MOST_DIGITS, Instant, Reading, list_folder, parse_integer, read_text

CLOCK_SLACK_SECONDS = 60.0
"""An access time further in the future than this was set by a clock that jumped."""
LISTED_SECONDS = 10.0
"""How often consoles in the background are looked at; those in front and pseudo-terminals are at every look."""

_CONSOLE = re.compile(r"tty\d+")
# On text in lower case: ignoring the case instead takes ten times as long, every second.
_INPUT_INTERRUPT = re.compile(r"i8042|keyboard|kbd|mouse|touch|gpio-keys|power.?button")


@dataclass(frozen=True)
class Session:
    """A graphical session, as its desktop told logind."""

    name: str
    idle_since: float | None
    """Monotonic seconds; `None` while somebody uses it."""


@dataclass(frozen=True)
class Used:
    """When something was last used, in monotonic seconds, and what it was."""

    at: float
    what: str


@dataclass(frozen=True)
class Activity:
    """What the last look saw, so that the next one notices what moved."""

    listed_at: float
    """Monotonic, when all terminals were looked at."""
    terminals: dict[str, float]
    """Their access times, by the wall clock."""
    terminal: Used | None = None
    """The newest use of any terminal."""
    input_lines: tuple[int, ...] | None = None
    """The numbers of the interrupts of input devices; `None` where the next look must search for them."""
    interrupts: int | None = None
    """How many there were of them; `None` without such a line."""
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
    """Fold the interrupt counts: of the lines found by name now and then, of the same lines by number at every look."""
    lines = previous.input_lines if previous is not None and activity.listed_at == previous.listed_at else None
    count = _count_of(lines, read_text(f"{root}/proc/stat") or "") if lines else None
    if lines is None or (lines and count is None):
        lines, count = _input_interrupts(read_text(f"{root}/proc/interrupts") or "")
    if count is None:
        return replace(activity, input_lines=lines)
    has_moved = previous is not None and previous.interrupts not in (None, count)
    if previous is None or previous.input is None or has_moved:
        used = Used(now.monotonic, "input interrupts" if has_moved else "input interrupts, since the daemon looks")
    else:
        used = previous.input
    return replace(
        activity,
        input_lines=lines,
        interrupts=count,
        input=used,
        has_input_moved=has_moved or (previous is not None and previous.has_input_moved),
    )


def _count_of(lines: Sequence[int], text: str) -> int | None:
    """Sum the counts of these lines as `/proc/stat` has them: of all processors, in the order of their numbers.

    That file costs a fifth of `/proc/interrupts`, and does not grow with the processors.
    """
    begin = text.find("\nintr ")
    counts = text[begin + 1 : text.find("\n", begin + 1)].split()[2:] if begin >= 0 else []
    if len(counts) <= max(lines):
        return None
    return sum(parse_integer(counts[line]) or 0 for line in lines)


def _input_interrupts(text: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Return the numbers of all input lines, and the sum of their counts over all processors.

    The sum is `None` when there is no such line; the numbers are when one of them has none.
    """
    total: int | None = None
    numbers: list[int] = []
    is_numbered = True
    for line in text.lower().splitlines():
        number, colon, rest = line.partition(":")
        if not colon or not _INPUT_INTERRUPT.search(rest):
            continue
        counts = 0
        for word in rest.split():
            if not word.isdigit() or len(word) > MOST_DIGITS:
                break
            counts += int(word)
        total = (total or 0) + counts
        line_number = parse_integer(number.strip())
        is_numbered = is_numbered and line_number is not None and line_number >= 0
        numbers += [line_number] if line_number is not None else []
    return tuple(numbers) if is_numbered else None, total
