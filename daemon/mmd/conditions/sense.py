"""How is the board right now? Every condition, read once, under one root."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmd.conditions import (
    battery_charge,
    cpu_pressure,
    cpu_used_by_others,
    disk_free,
    external_power,
    io_pressure,
    memory_available,
    memory_pressure,
    soc_temperature,
    user_idle,
)
from mmd.conditions.cpu_used_by_others import ProcessorTimes
from mmd.conditions.reading import Instant, Reading
from mmd.conditions.user_idle import InputActivity


@dataclass(frozen=True)
class Conditions:
    """One look at the board. The names are those of the `[conditions]` tables of the configuration."""

    at: Instant
    external_power: Reading[bool]
    battery_charge: Reading[float]
    user_idle: Reading[float]
    soc_temperature: Reading[float]
    memory_available: Reading[float]
    disk_free: Reading[float]
    cpu_used_by_others: Reading[float]
    cpu_pressure: Reading[float]
    memory_pressure: Reading[float]
    io_pressure: Reading[float]

    def reading(self, name: str) -> Reading[Any]:
        """Return one condition by its name in the configuration."""
        found: Reading[Any] = getattr(self, name)
        return found

    def problems(self) -> tuple[str, ...]:
        """Return everything that could not be believed, each thing once."""
        return tuple(dict.fromkeys(problem for name in CONDITIONS for problem in self.reading(name).problems))


@dataclass(frozen=True)
class Seen:
    """What the next look must know of this one: conditions that are differences."""

    activity: InputActivity | None = None
    processor: ProcessorTimes | None = None


@dataclass(frozen=True)
class ConditionKind:
    """What one condition means, for tables and documents."""

    unit: str
    source: str
    without: str
    """What the daemon concludes on a board that has no such sensor."""


CONDITIONS: dict[str, ConditionKind] = {
    "external_power": ConditionKind(
        unit="",
        source="`online` and `status` of every Mains, USB, Wireless supply and battery in `/sys/class/power_supply`",
        without="no battery and no supply: the board is powered",
    ),
    "battery_charge": ConditionKind(
        unit="%",
        source="`capacity` of every battery; several are weighed by their size",
        without="no battery: no limit",
    ),
    "user_idle": ConditionKind(
        unit="s",
        source="access times of `/dev/tty*` and `/dev/pts/*`, input lines of `/proc/interrupts`",
        without="no terminal and no input device: idle",
    ),
    "soc_temperature": ConditionKind(
        unit="°C",
        source="hottest `temp` of all zones in `/sys/class/thermal`",
        without="no thermal zone: no limit",
    ),
    "memory_available": ConditionKind(
        unit="MiB",
        source="`MemAvailable` of `/proc/meminfo`, or the control group's limit where that leaves less",
        without="nothing readable: no limit",
    ),
    "disk_free": ConditionKind(
        unit="MiB",
        source="free space on the file system of the state folder",
        without="nothing readable: no limit",
    ),
    "cpu_used_by_others": ConditionKind(
        unit="%",
        source="`/proc/stat`, less what the daemon and its trainer used; of all processors together",
        without="nothing readable: no limit",
    ),
    "cpu_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/cpu`",
        without="a kernel that tells no pressure: no limit",
    ),
    "memory_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/memory`",
        without="a kernel that tells no pressure: no limit",
    ),
    "io_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/io`",
        without="a kernel that tells no pressure: no limit",
    ),
}


def sense(
    root: Path, state_folder: Path, *, now: Instant, before: Seen | None = None, own_processes: Sequence[int] = ()
) -> tuple[Conditions, Seen]:
    """Read every condition under `root`; hand the second result back to the next call. Never raises on bad files.

    `own_processes` are the daemon's own: what they use is not used by others.
    """
    before = before or Seen()
    idle, activity = user_idle.read(root, now, before.activity)
    others, processor = cpu_used_by_others.read(root, now, before.processor, own_processes)
    conditions = Conditions(
        at=now,
        external_power=external_power.read(root),
        battery_charge=battery_charge.read(root),
        user_idle=idle,
        soc_temperature=soc_temperature.read(root),
        memory_available=memory_available.read(root),
        disk_free=disk_free.read(state_folder),
        cpu_used_by_others=others,
        cpu_pressure=cpu_pressure.read(root),
        memory_pressure=memory_pressure.read(root),
        io_pressure=io_pressure.read(root),
    )
    return conditions, Seen(activity, processor)
