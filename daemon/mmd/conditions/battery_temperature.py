"""How hot is the hottest battery of the board, in degrees Celsius? `None` when none tells."""

from pathlib import Path

from mmd.conditions.external_power import Supplies, list_supplies
from mmd.conditions.reading import Reading, read_integer, shown

COLDEST_CELSIUS, HOTTEST_CELSIUS = -40.0, 100.0
_TENTHS = 10.0


def read(root: Path, listed: Supplies | None = None) -> Reading[float]:
    """Take the hottest of all batteries; readings no battery survives are ignored and named."""
    hottest: tuple[float, str] | None = None
    problems = []
    for folder in (listed or list_supplies(root)).batteries:
        file = folder / "temp"
        tenths = read_integer(file)
        if tenths is None:
            if file.exists():
                problems.append(f"{shown(root, file)} holds no number")
            continue
        celsius = tenths / _TENTHS
        if not COLDEST_CELSIUS <= celsius <= HOTTEST_CELSIUS:
            problems.append(f"{shown(root, file)} says {celsius:.0f} °C, which no battery survives")
        elif hottest is None or celsius > hottest[0]:
            hottest = celsius, folder.name
    if hottest is None:
        return Reading(None, "no battery tells its temperature", tuple(problems))
    return Reading(hottest[0], hottest[1], tuple(problems))
