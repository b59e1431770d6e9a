"""How much memory can be had without swapping, in MiB? The machine's, or the control group's where that is less."""

from pathlib import Path

from mmd.conditions.reading import Reading, read_integer, read_text, shown

KIB_PER_MIB = 1024
MIB = 1024 * 1024
_NO_LIMIT = 1 << 60
"""Version 1 of the control groups writes a number near 2^63 where there is no limit."""


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
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            room = _room(base.joinpath(*parts[:depth]), *names)
            if room is not None and (least is None or room < least[0]):
                least = room, f"the limit of the control group /{'/'.join(parts[:depth])}"
    return least


def _room(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> float | None:
    limit, usage = read_integer(folder / limit_name), read_integer(folder / usage_name)
    if limit is None or usage is None or limit >= _NO_LIMIT:
        return None
    reclaimable = 0
    for line in (read_text(folder / "memory.stat") or "").splitlines():
        name, _, number = line.partition(" ")
        if name == reclaimable_name and number.isdigit():
            reclaimable = int(number)
    return max(0, limit - usage + reclaimable) / MIB
