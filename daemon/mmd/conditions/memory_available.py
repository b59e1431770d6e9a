"""How much memory can be had without swapping, in MiB? The machine's, or the control group's where that is less."""

from pathlib import Path

import msgspec

from mmd.conditions.control_group import ControlGroup, own_groups
from mmd.conditions.reading import Instant, Reading, parse_integer, read_integer, read_text, shown

KIB_PER_MIB = 1024
MIB = 1024 * 1024
GROUPS_SECONDS = 30.0
"""How often control groups are looked for that have a limit; the room in those is read at every look."""
_NO_LIMIT = 1 << 60
"""Version 1 of the control groups writes a number near 2^63 where there is no limit."""
_FILES = {
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version: the limits, the use, and what of it can be had back at once."""


class LimitedGroups(msgspec.Struct, frozen=True):
    """The control groups above this process that have a limit, and when they were looked for."""

    at: float
    """Monotonic."""
    groups: tuple[ControlGroup, ...]


def read(root: Path, now: Instant, previous: LimitedGroups | None) -> tuple[Reading[float], LimitedGroups]:
    """Take the least of MemAvailable and the room left in every control group above this process.

    The second result is what the next call must be given.
    """
    limited = previous
    if limited is None or not 0 <= now.monotonic - limited.at < GROUPS_SECONDS:
        limited = LimitedGroups(
            now.monotonic, tuple(group for group in own_groups(root, "memory") if _limit(group) is not None)
        )
    problems: list[str] = []
    found = [_machine(root, problems), *(_room(group) for group in limited.groups)]
    readable = [reading for reading in found if reading is not None]
    if not readable:
        return Reading(None, "nothing tells the memory", tuple(problems)), limited
    mib, detail = min(readable)
    return Reading(mib, detail, tuple(problems)), limited


def _machine(root: Path, problems: list[str]) -> tuple[float, str] | None:
    file = f"{root}/proc/meminfo"
    text = read_text(file)
    if text is None:
        problems.append(f"{shown(root, file)} cannot be read")
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemAvailable:":
            kib = parse_integer(words[1])
            if kib is not None and kib >= 0:
                return kib / KIB_PER_MIB, "MemAvailable of the machine"
    problems.append(f"{shown(root, file)} has no MemAvailable")
    return None


def _limit(group: ControlGroup) -> int | None:
    """Return the limit, or the level from which the kernel throttles (memory.high), in bytes."""
    found = [read_integer(f"{group.folder}/{name}") for name in _FILES[group.version][0]]
    return min((limit for limit in found if limit is not None and 0 <= limit < _NO_LIMIT), default=None)


def _room(group: ControlGroup) -> tuple[float, str] | None:
    """Return what may be used up to the limit; pages that can be had back at once are not used."""
    _, usage_name, reclaimable_name = _FILES[group.version]
    limit, usage = _limit(group), read_integer(f"{group.folder}/{usage_name}")
    if limit is None or usage is None or usage < 0:
        return None
    reclaimable = 0
    for line in (read_text(f"{group.folder}/memory.stat") or "").splitlines():
        name, _, number = line.partition(" ")
        if name == reclaimable_name:
            reclaimable = max(0, parse_integer(number) or 0)
    return max(0, limit - usage + reclaimable) / MIB, f"the limit of the control group {group.name}"
