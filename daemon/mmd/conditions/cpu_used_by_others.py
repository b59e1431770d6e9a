"""How much of all processors do programs other than this daemon and its trainer use, in percent?

From the counters of `/proc/stat`, less those of the daemon, of its children that ended and of those that live. Niced
programs count too; waiting for a disk and what a hypervisor takes do not. The value is a mean that forgets with
`SMOOTHING_SECONDS`, so that one look in a burst decides nothing. It takes two looks: `None` before.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmd.conditions.reading import MOST_DIGITS, Instant, Reading, read_text, shown

SMOOTHING_SECONDS = 5.0
_BUSY = (0, 1, 2, 5, 6)
"""Of user, nice, system, idle, iowait, irq, softirq, steal: those that are work. Guests are in user already."""
_COUNTERS = 8
_OWN_FIELDS = slice(13, 17)
"""utime, stime, cutime, cstime of `/proc/PID/stat`, `proc(5)`, counted from 0."""


class ProcessorTimes(msgspec.Struct, frozen=True):
    """What the counters said at the last look, in clock ticks."""

    at: float
    """Monotonic."""
    total: int
    busy: int
    own: int
    percent: float | None = None
    """The mean so far."""


def read(
    root: Path, now: Instant, previous: ProcessorTimes | None, own_processes: Sequence[int]
) -> tuple[Reading[float], ProcessorTimes | None]:
    """Return the share, and what the next call must be given. `own_processes` are not counted as others."""
    file = f"{root}/proc/stat"
    text = read_text(file)
    if text is None:
        return Reading(None, "nothing tells the processor's time"), None
    counters = _counters(text)
    if counters is None:
        return Reading(None, "nothing tells the processor's time", (f"{shown(root, file)} has no line cpu",)), None
    own = sum(_own_ticks(root, process) for process in own_processes)
    times = ProcessorTimes(now.monotonic, sum(counters), sum(counters[index] for index in _BUSY), own)
    if previous is None:
        return Reading(None, "known from the second look on"), times
    percent = _smoothed(times, previous)
    times = ProcessorTimes(times.at, times.total, times.busy, times.own, percent)
    detail = "known from the second look on" if percent is None else "all programs but mmd"
    return Reading(percent, detail), times


def _smoothed(times: ProcessorTimes, previous: ProcessorTimes) -> float | None:
    """Fold the time since the last look into the mean; counters that went back (a processor taken out) tell nothing."""
    total, busy = times.total - previous.total, times.busy - previous.busy
    if total <= 0 or busy < 0:
        return previous.percent
    own = max(0, times.own - previous.own)
    share = 100.0 * min(1.0, max(0, busy - own) / total)
    if previous.percent is None:
        return share
    kept = math.exp(-max(0.0, times.at - previous.at) / SMOOTHING_SECONDS)
    return kept * previous.percent + (1 - kept) * share


def _counters(text: str) -> list[int] | None:
    words = text.split("\n", 1)[0].split()
    counters = _numbers(words[1 : 1 + _COUNTERS])
    return counters if words[:1] == ["cpu"] and len(counters) == _COUNTERS else None


def _own_ticks(root: Path, process: int) -> int:
    """Return what a process and its ended children used; 0 for one that is gone."""
    text = read_text(f"{root}/proc/{process}/stat") or ""
    # The name, in parentheses, may hold anything.
    fields = ["", "", *text.rpartition(")")[2].split()]
    return sum(_numbers(fields[_OWN_FIELDS]))


def _numbers(words: Sequence[str]) -> list[int]:
    """Return those words that are numbers, of no more digits than the kernel's counters have."""
    return [int(word) for word in words if word.isdigit() and len(word) <= MOST_DIGITS]
