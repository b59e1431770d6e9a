"""For what share of the time did tasks wait for a processor, in percent? `None` where the kernel does not tell.

The trainer is among them: beside others that keep every processor busy it waits too.
"""

from pathlib import Path

from mmd.conditions.pressure import read_pressure
from mmd.conditions.reading import Reading


def read(root: Path, alarm: float | None = None) -> Reading[float]:
    return read_pressure(root, "cpu", alarm)
