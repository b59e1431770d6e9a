"""How much memory can be had without swapping, in MiB? The machine's, or the control group's where that is less."""

from pathlib import Path

from mmd.conditions.control_group import ControlGroup, own_groups
from mmd.conditions.reading import Reading, read_integer, read_text, shown

KIB_PER_MIB = 1024
MIB = 1024 * 1024
_NO_LIMIT = 1 << 60
"""Version 1 of the control groups writes a number near 2^63 where there is no limit."""
_FILES = {
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version: the limits, the use, and what of it can be had back at once."""


def read(root: Path) -> Reading[float]:
    """Take the least of MemAvailable and the room left in every control group above this process."""
    problems: list[str] = []
    found = [reading for reading in (_machine(root, problems), _group(root)) if reading is not None]
    if not found:
        return Reading(None, "nothing tells the memory", tuple(problems))
    mib, detail = min(found)
    return Reading(mib, detail, tuple(problems))


def _machine(root: Path, problems: list[str]) -> tuple[float, str] | None:
    file = root / "proc/meminfo"
    text = read_text(file)
    if text is None:
        problems.append(f"{shown(root, file)} cannot be read")
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemAvailable:" and words[1].isdigit():
            return int(words[1]) / KIB_PER_MIB, "MemAvailable of the machine"
    problems.append(f"{shown(root, file)} has no MemAvailable")
    return None


def _group(root: Path) -> tuple[float, str] | None:
    """Return the room in the tightest control group, version 2 or 1; `None` when none limits."""
    least: tuple[float, str] | None = None
    for group in own_groups(root, "memory"):
        room = _room(group)
        if room is not None and (least is None or room < least[0]):
            least = room, f"the limit of the control group {group.name}"
    return least


def _room(group: ControlGroup) -> float | None:
    """Return what may be used up to the limit, or up to the level from which the kernel throttles (memory.high)."""
    limit_names, usage_name, reclaimable_name = _FILES[group.version]
    limits = [read_integer(group.folder / name) for name in limit_names]
    set_limits = [limit for limit in limits if limit is not None and 0 <= limit < _NO_LIMIT]
    if not set_limits:
        return None
    usage = read_integer(group.folder / usage_name)
    if usage is None or usage < 0:
        return None
    reclaimable = 0
    for line in (read_text(group.folder / "memory.stat") or "").splitlines():
        name, _, number = line.partition(" ")
        if name == reclaimable_name and number.isdigit():
            reclaimable = int(number)
    return max(0, min(set_limits) - usage + reclaimable) / MIB
