"""How many programs run that the owner wants to have the board for themselves? By the names in the configuration."""

from pathlib import Path

import msgspec

from mmd.conditions.reading import Instant, Reading, list_folder, read_text
from mmd.limits import ExclusiveProcesses

LOOK_SECONDS = 0.5
"""Reading the name of every process costs more than all other conditions together: not at every look."""
_NAME_LENGTH = 15
"""The kernel keeps no more of a program's name, `proc(5)`."""


class ProcessLook(msgspec.Struct, frozen=True):
    """What the last look found."""

    at: float
    """Monotonic."""
    names: tuple[str, ...]
    """For which it looked."""
    reading: Reading[float]


def read(
    root: Path, now: Instant, previous: ProcessLook | None, limits: ExclusiveProcesses
) -> tuple[Reading[float], ProcessLook | None]:
    """Return the count, and what the next call must be given."""
    if not limits.names:
        return Reading(0.0, "no program is named"), None
    if previous is not None and previous.names == limits.names and now.monotonic - previous.at < LOOK_SECONDS:
        return previous.reading, previous
    reading = _look(root, limits.names)
    return reading, ProcessLook(now.monotonic, limits.names, reading)


def _look(root: Path, names: tuple[str, ...]) -> Reading[float]:
    processes = [name for name in list_folder(root / "proc") if name.isdigit()]
    # Process 1 always runs: where it cannot be seen, others are hidden too (ProtectProc=, hidepid).
    if "1" not in processes:
        problem = "/proc hides the processes of other users; a drop-in with ProtectProc=default shows them"
        return Reading(None, "the processes of others cannot be seen", (problem,))
    wanted = {name[:_NAME_LENGTH]: name for name in names}
    running = {read_text(root / "proc" / process / "comm") for process in processes}
    found = [name for short, name in wanted.items() if short in running]
    return Reading(float(len(found)), f"{' and '.join(found)} runs" if found else "none of those named runs")
