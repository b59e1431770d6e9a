"""How hot is the hottest thermal zone of the board, in degrees Celsius? `None` when it has none that can be read."""

from pathlib import Path

from mmd.conditions.reading import Reading, list_folder, read_integer, read_text, shown

COLDEST_CELSIUS = -40.0
HOTTEST_CELSIUS = 150.0


def read(root: Path) -> Reading[float]:
    """Take the hottest of all zones; readings no board can have are ignored and named."""
    hottest: tuple[float, str] | None = None
    problems = []
    listing = root / "sys/class/thermal"
    for name in list_folder(listing):
        if not name.startswith("thermal_zone"):
            continue
        folder = listing / name
        file = folder / "temp"
        millidegrees = read_integer(file)
        if millidegrees is None:
            problems.append(f"{shown(root, file)} holds no number")
            continue
        celsius = millidegrees / 1000
        if not COLDEST_CELSIUS <= celsius <= HOTTEST_CELSIUS:
            problems.append(f"{shown(root, file)} says {celsius:.0f} °C, which no board has")
        elif 0 < millidegrees < 200:
            problems.append(f"{shown(root, file)} says {millidegrees}, which is not in thousandths of a degree")
        elif hottest is None or celsius > hottest[0]:
            hottest = celsius, read_text(folder / "type") or folder.name
    if hottest is None:
        return Reading(None, "no thermal zone", tuple(problems))
    return Reading(hottest[0], hottest[1], tuple(problems))
