"""For what share of the time did somebody wait for a resource? The kernel's pressure stall information, `psi(7)`.

`some avg10` is the share of the last ten seconds, in percent, in which at least one task stood still for want of it.
"""

from collections.abc import Iterator
from pathlib import Path

from mmd.conditions.control_group import SUPERVISOR_GROUP, own_groups
from mmd.conditions.reading import Reading, read_text, shown

_WANTED = "avg10="


def pressure_files(root: Path, resource: str) -> Iterator[str]:
    """Yield where the pressure on a resource may be told: of the machine, then of the daemon with its trainer."""
    yield f"{root}/proc/pressure/{resource}"
    own = [group.folder for group in own_groups(root, "") if group.version == 2]
    if own:
        yield f"{own[-1].removesuffix(f'/{SUPERVISOR_GROUP}')}/{resource}.pressure"


def read_pressure(root: Path, resource: str, alarm: float | None = None) -> Reading[float]:
    """Read one of `cpu`, `memory` and `io`. A kernel without it, or with it switched off, is no problem.

    `alarm` is the share of the last two seconds that the kernel or the service manager told to be passed; the average
    lags.
    """
    reading = _average(root, resource)
    if alarm is not None and (reading.value is None or reading.value < alarm):
        return Reading(alarm, f"{_waiting('tasks', resource)}, in the last two seconds", reading.problems)
    return reading


def _average(root: Path, resource: str) -> Reading[float]:
    for file in pressure_files(root, resource):
        text = read_text(file)
        if text is not None:
            whose = "tasks of the daemon's control group" if file.endswith(".pressure") else "tasks"
            return _reading(text, _waiting(whose, resource), root, file)
    return Reading(None, "this kernel tells no pressure")


def _waiting(whose: str, resource: str) -> str:
    return f"{whose} that waited for {_WORDS[resource]}"


def _reading(text: str, detail: str, root: Path, file: str) -> Reading[float]:
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "some":
            percent = _percent(rest)
            if percent is None:
                break
            return Reading(percent, detail)
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
