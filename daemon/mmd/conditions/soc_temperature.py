"""How hot is the board, in degrees Celsius? The thermal zone that is nearest to its limit; `None` when none tells.

Zones differ in what they endure, so each is held to its own limit: the owner's stop level, or the zone's lowest
passive, hot or critical trip point less a margin, whichever is lower. A passive trip is where the kernel begins to slow
the whole board down, which background work must not cause. Trip points of fans (active) are no limits.
"""

from pathlib import Path

import msgspec

from mmd.conditions.reading import Instant, Reading, list_folder, read_integer, read_text, shown
from mmd.limits import SocTemperature

COLDEST_CELSIUS = -40.0
HOTTEST_CELSIUS = 150.0
LOWEST_TRIP_CELSIUS = 40.0
"""Firmware that knows no trip point says 0, -274 or the room's temperature; a board could never run below those."""
TRIPS_SECONDS = 60.0
"""Trip points change rarely: they are read anew this often, and when a zone came or went."""
_LIMITING_TRIPS = ("passive", "hot", "critical")


class Zone(msgspec.Struct, frozen=True):
    folder: Path
    kind: str
    trip_celsius: float | None
    """The lowest trip point that limits, where it has one to be believed."""
    trip_kind: str = ""


class Zones(msgspec.Struct, frozen=True):
    """The zones of the board with their trip points, and when those were read, in monotonic seconds."""

    at: float
    names: tuple[str, ...]
    zones: tuple[Zone, ...]


def read(root: Path, now: Instant, previous: Zones | None, limits: SocTemperature) -> tuple[Reading[float], Zones]:
    """Return the reading, and what the next call must be given."""
    listing = f"{root}/sys/class/thermal"
    names = tuple(name for name in list_folder(listing) if name.startswith("thermal_zone"))
    listed = previous
    if listed is None or listed.names != names or now.monotonic - listed.at >= TRIPS_SECONDS:
        listed = Zones(now.monotonic, names, tuple(_zone(Path(listing, name)) for name in names))
    problems: list[str] = []
    readable = [(zone, celsius) for zone in listed.zones if (celsius := _celsius(root, zone, problems)) is not None]
    if not readable:
        return Reading(None, "no thermal zone", tuple(problems)), listed
    zone, celsius = min(readable, key=lambda each: _stop_celsius(each[0], limits) - each[1])
    reading = Reading(celsius, zone.kind, tuple(problems))
    if zone.trip_celsius is not None and _stop_celsius(zone, limits) < limits.stop_celsius:
        detail = f"{zone.kind}, whose {zone.trip_kind} trip point is at {zone.trip_celsius:g} °C"
        reading = Reading(celsius, detail, tuple(problems), ceiling=_stop_celsius(zone, limits))
    return reading, listed


def _stop_celsius(zone: Zone, limits: SocTemperature) -> float:
    if zone.trip_celsius is None:
        return limits.stop_celsius
    return min(limits.stop_celsius, zone.trip_celsius - limits.trip_margin_celsius)


def _celsius(root: Path, zone: Zone, problems: list[str]) -> float | None:
    file = f"{zone.folder}/temp"
    millidegrees = read_integer(file)
    if millidegrees is None:
        problems.append(f"{shown(root, file)} holds no number")
        return None
    celsius = millidegrees / 1000
    if not COLDEST_CELSIUS <= celsius <= HOTTEST_CELSIUS:
        problems.append(f"{shown(root, file)} says {celsius:.0f} °C, which no board has")
        return None
    if 0 < millidegrees < 200:
        problems.append(f"{shown(root, file)} says {millidegrees}, which is not in thousandths of a degree")
        return None
    return celsius


def _zone(folder: Path) -> Zone:
    kind = read_text(folder / "type") or folder.name
    trips = []
    for name in list_folder(folder):
        if name.startswith("trip_point_") and name.endswith("_temp"):
            trip_kind = read_text(folder / name.replace("_temp", "_type"))
            millidegrees = read_integer(folder / name)
            if trip_kind in _LIMITING_TRIPS and millidegrees is not None:
                trips.append((millidegrees / 1000, trip_kind))
    believed = [trip for trip in trips if LOWEST_TRIP_CELSIUS <= trip[0] <= HOTTEST_CELSIUS]
    celsius, trip_kind = min(believed, default=(None, ""))
    return Zone(folder, kind, celsius, trip_kind)
