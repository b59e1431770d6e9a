"""For what share of the time did somebody wait for a resource? The kernel's pressure stall information, `psi(7)`.

`some avg10` is the share of the last ten seconds, in percent, in which at least one task stood still for want of it.
"""

from pathlib import Path

from mmd.conditions.reading import Reading, read_text, shown

_WANTED = "avg10="


def read_pressure(root: Path, resource: str) -> Reading[float]:
    """Read one of `cpu`, `memory` and `io`. A kernel without it, or with it switched off, is no problem."""
    file = root / "proc/pressure" / resource
    text = read_text(file)
    if text is None:
        return Reading(None, "this kernel tells no pressure")
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "some":
            percent = _percent(rest)
            if percent is None:
                break
            return Reading(percent, f"tasks that waited for {_WORDS[resource]}")
    return Reading(None, "no pressure to be believed", (f"{shown(root, file)} holds no average of ten seconds",))


_WORDS = {"cpu": "a processor", "memory": "memory", "io": "a disk"}


def _percent(averages: str) -> float | None:
    for word in averages.split():
        if word.startswith(_WANTED):
            try:
                percent = float(word.removeprefix(_WANTED))
            except ValueError:
                return None
            return percent if 0.0 <= percent <= 100.0 else None
    return None
