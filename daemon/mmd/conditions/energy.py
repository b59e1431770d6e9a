"""How much power does the board use? From the best meter it has; `None` on a board without one.

1. Current sensors on its supply rails (hwmon: INA219, INA226, INA3221 and their like): the whole board, where one of
   the rails is its input; otherwise the sum of the rails.
2. The energy counters of x86 processors (powercap, intel-rapl): the platform where it is counted, otherwise the
   packages. The kernel lets only root read them.
3. A battery that discharges: what it gives is what the board uses. A battery that charges says nothing about that.

Two readings some time apart give an amount: `watt_hours_between`.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from mmd.conditions.external_power import list_supplies
from mmd.conditions.reading import list_folder, read_integer, read_text

MOST_WATTS = 2000.0
"""What no board uses: a meter that says more is not believed."""
_RAIL_METERS = ("ina", "ltc29", "pac19")
_INPUT_LABELS = ("vdd_in", "pom_5v_in", "vin_sys_5v0", "vin", "total")
"""How makers of boards label the rail that feeds all others."""
_MICRO = 1e-6
_MILLI = 1e-3
_JOULES_PER_WATT_HOUR = 3600.0


class EnergyCounter(msgspec.Struct, frozen=True):
    """A count of joules that begins again at `wraps_at`."""

    name: str
    joules: float
    wraps_at: float


class EnergyReading(msgspec.Struct, frozen=True):
    """What one meter says: its momentary power, or counters of energy."""

    meter: str
    """In words, for `mmd status`."""
    power_watts: float | None = None
    counters: tuple[EnergyCounter, ...] = ()


def read_energy(root: Path) -> EnergyReading | None:
    """Read the best meter of the board under `root`. Never raises."""
    return _rails(root) or _processor(root) or _battery(root)


def watt_hours_between(before: EnergyReading | None, after: EnergyReading | None, seconds: float) -> float | None:
    """Return what was used in the `seconds` between two readings.

    Counters that began again in between are reckoned on (once). `None` when a reading is missing, when they are of
    different meters, or when they give more than any board uses.
    """
    if before is None or after is None or before.meter != after.meter or seconds <= 0:
        return None
    if before.power_watts is not None and after.power_watts is not None:
        joules = (before.power_watts + after.power_watts) / 2 * seconds
    else:
        earlier = {counter.name: counter for counter in before.counters}
        if set(earlier) != {counter.name for counter in after.counters}:
            return None
        joules = sum(_counted(earlier[counter.name], counter) for counter in after.counters)
    return joules / _JOULES_PER_WATT_HOUR if 0 <= joules <= MOST_WATTS * seconds else None


def _counted(before: EnergyCounter, after: EnergyCounter) -> float:
    joules = after.joules - before.joules
    return joules if joules >= 0 else joules + after.wraps_at


def _rails(root: Path) -> EnergyReading | None:
    rails: list[tuple[str, float]] = []
    listing = root / "sys/class/hwmon"
    for chip in list_folder(listing):
        folder = listing / chip
        if (read_text(folder / "name") or "").startswith(_RAIL_METERS):
            rails += [rail for rail in _rails_of(folder) if 0 <= rail[1] <= MOST_WATTS]
    for label, watts in rails:
        if label.lower() in _INPUT_LABELS:
            return EnergyReading(f"the rail {label}", watts)
    if not rails:
        return None
    return EnergyReading(f"{len(rails)} supply rails", sum(watts for _, watts in rails))


def _rails_of(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield label and watts of each channel: told as power, or as voltage and current."""
    files = list_folder(folder)
    powers = [name for name in files if name.startswith("power") and name.endswith("_input")]
    for name in powers:
        microwatts = read_integer(folder / name)
        if microwatts is not None:
            yield read_text(folder / name.replace("_input", "_label")) or folder.name, microwatts * _MICRO
    if powers:
        return
    for name in files:
        number = name.removeprefix("curr").removesuffix("_input")
        if not number.isdigit():
            continue
        milliamperes, millivolts = read_integer(folder / name), read_integer(folder / f"in{number}_input")
        if milliamperes is not None and millivolts is not None:
            label = read_text(folder / f"in{number}_label") or f"{folder.name} {number}"
            yield label, milliamperes * _MILLI * millivolts * _MILLI


def _processor(root: Path) -> EnergyReading | None:
    listing = root / "sys/class/powercap"
    counters: dict[str, EnergyCounter] = {}
    for zone in list_folder(listing):
        # intel-rapl:0 is a package; intel-rapl:0:1 a part of it.
        if not zone.startswith("intel-rapl:") or zone.count(":") != 1:
            continue
        name = read_text(listing / zone / "name") or zone
        used, wraps_at = (read_integer(listing / zone / file) for file in ("energy_uj", "max_energy_range_uj"))
        if used is not None and wraps_at is not None and 0 <= used <= wraps_at:
            counters[name] = EnergyCounter(name, used * _MICRO, wraps_at * _MICRO)
    if "psys" in counters:
        return EnergyReading("the platform's energy counter", counters=(counters["psys"],))
    if not counters:
        return None
    return EnergyReading("the processor's energy counters", counters=tuple(counters.values()))


def _battery(root: Path) -> EnergyReading | None:
    watts = [_battery_watts(folder) for folder in list_supplies(root).batteries]
    known = [power for power in watts if power is not None]
    return EnergyReading("the battery", sum(known)) if known else None


def _battery_watts(folder: Path) -> float | None:
    """Return what a battery gives. Some drivers say it as a negative number."""
    if read_text(folder / "status") != "Discharging":
        return None
    microwatts = read_integer(folder / "power_now")
    if microwatts is None:
        microamperes, microvolts = read_integer(folder / "current_now"), read_integer(folder / "voltage_now")
        if microamperes is None or microvolts is None:
            return None
        watts = abs(microamperes) * _MICRO * microvolts * _MICRO
    else:
        watts = abs(microwatts) * _MICRO
    return watts if 0 <= watts <= MOST_WATTS else None
