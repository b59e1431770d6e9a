"""For how many seconds has nobody touched the board? `None` on a headless board, which counts as idle.

Two sources, and the newest activity of both decides:
1. the access times of terminals (virtual consoles, serial consoles, pseudo-terminals), which the kernel moves
   when somebody types;
2. the interrupts of keyboards, mice, touch panels and buttons, which tell of a graphical session too.
A board with neither has nobody in front of it.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmd.conditions.reading import Instant, Reading, list_folder, read_text

CLOCK_SLACK_SECONDS = 60.0
"""An access time further in the future than this was set by a clock that jumped."""

_CONSOLE = re.compile(r"tty\d+")
# On text in lower case: ignoring the case instead takes ten times as long, every second.
_INPUT_INTERRUPT = re.compile(r"i8042|keyboard|kbd|mouse|touch|gpio-keys|power.?button")


@dataclass(frozen=True)
class InputActivity:
    """What is known of the input interrupts: their count, and the monotonic times that tell its age."""

    count: int
    first_seen: float
    moved_at: float | None = None
    """`None` until the count was seen to move."""


def read(root: Path, now: Instant, previous: InputActivity | None) -> tuple[Reading[float], InputActivity | None]:
    """Return the idle time, and what the next call must be given to notice that an interrupt count moved."""
    problems: list[str] = []
    newest = _newest_terminal(root, now, problems)
    activity = _input_activity(root, now, previous)
    found = [newest] if newest is not None else []
    if activity is not None and activity.moved_at is not None:
        found.append((max(0.0, now.monotonic - activity.moved_at), "input interrupts"))
    elif activity is not None and not found:
        # Nobody knows what was before the first look: idle time starts with it.
        found.append((max(0.0, now.monotonic - activity.first_seen), "input interrupts, since the daemon looks"))
    if not found:
        return Reading(None, "headless: no terminal and no input device", tuple(problems)), activity
    seconds, detail = min(found)
    return Reading(seconds, detail, tuple(problems)), activity


def _newest_terminal(root: Path, now: Instant, problems: list[str]) -> tuple[float, str] | None:
    newest: tuple[float, str] | None = None
    for name in _terminals(root):
        try:
            accessed = os.stat(f"{root}/dev/{name}").st_atime  # noqa: PTH116 (a board has dozens of them)
        except OSError:
            continue  # the session ended between listing and looking, or the console has no device
        if accessed > now.wall + CLOCK_SLACK_SECONDS:
            problems.append(f"/dev/{name} was used in the future; did the clock jump?")
            continue
        seconds = max(0.0, now.wall - accessed)
        if newest is None or seconds < newest[0]:
            newest = seconds, f"/dev/{name}"
    return newest


def _terminals(root: Path) -> list[str]:
    """Return the names under `/dev` of what people type on."""
    found = [name for name in list_folder(root / "dev") if _CONSOLE.fullmatch(name)]
    found += [f"pts/{name}" for name in list_folder(root / "dev/pts") if name.isdigit()]
    for console in (read_text(root / "sys/class/tty/console/active") or "").split():
        name = Path(console).name
        if name not in found:
            found.append(name)
    return found


def _input_activity(root: Path, now: Instant, previous: InputActivity | None) -> InputActivity | None:
    """Fold the interrupt counts."""
    count = _input_interrupts(read_text(root / "proc/interrupts") or "")
    if count is None:
        return None
    if previous is None:
        return InputActivity(count=count, first_seen=now.monotonic)
    if previous.count == count:
        return previous
    return InputActivity(count=count, first_seen=previous.first_seen, moved_at=now.monotonic)


def _input_interrupts(text: str) -> int | None:
    """Sum the counts of all input lines over all processors; `None` when there is no such line."""
    total: int | None = None
    for line in text.lower().splitlines():
        _, colon, rest = line.partition(":")
        if not colon or not _INPUT_INTERRUPT.search(rest):
            continue
        counts = 0
        for word in rest.split():
            if not word.isdigit():
                break
            counts += int(word)
        total = (total or 0) + counts
    return total
