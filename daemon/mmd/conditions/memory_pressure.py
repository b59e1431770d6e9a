"""For what share of the time did tasks wait for memory, in percent? `None` where the kernel does not tell.

This shows before the memory runs out: pages are being thrown away and read again.
"""

from pathlib import Path

from mmd.conditions.pressure import read_pressure
from mmd.conditions.reading import Reading


def read(root: Path, alarm: float | None = None) -> Reading[float]:
    return read_pressure(root, "memory", alarm)
