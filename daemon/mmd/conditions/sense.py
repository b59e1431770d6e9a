"""How is the board right now? Every condition, read once, under one root."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmd.conditions import (
    allowed_hours,
    battery_charge,
    battery_temperature,
    cpu_pressure,
    cpu_used_by_others,
    disk_free,
    duty_cycle,
    exclusive_processes,
    external_power,
    io_pressure,
    memory_available,
    memory_pressure,
    run_length,
    soc_temperature,
    training_energy_today,
    training_time_today,
    user_idle,
)
from mmd.conditions.cpu_used_by_others import ProcessorTimes
from mmd.conditions.exclusive_processes import ProcessLook
from mmd.conditions.kinds import CONDITIONS
from mmd.conditions.memory_available import LimitedGroups
from mmd.conditions.reading import Instant, Reading
from mmd.conditions.soc_temperature import Zones
from mmd.conditions.usage import NO_USAGE, Usage
from mmd.conditions.user_idle import Activity, Session
from mmd.limits import ConditionsConfig


class Conditions(msgspec.Struct, frozen=True):
    """One look at the board. The names are those of the `[conditions]` tables of the configuration."""

    at: Instant
    external_power: Reading[bool]
    battery_charge: Reading[float]
    battery_temperature: Reading[float]
    user_idle: Reading[float]
    soc_temperature: Reading[float]
    memory_available: Reading[float]
    disk_free: Reading[float]
    cpu_used_by_others: Reading[float]
    cpu_pressure: Reading[float]
    memory_pressure: Reading[float]
    io_pressure: Reading[float]
    exclusive_processes: Reading[float]
    allowed_hours: Reading[bool]
    run_length: Reading[float]
    duty_cycle: Reading[float]
    training_time_today: Reading[float]
    training_energy_today: Reading[float]

    def reading(self, name: str) -> Reading[Any]:
        """Return one condition by its name in the configuration."""
        found: Reading[Any] = getattr(self, name)
        return found

    def problems(self) -> tuple[str, ...]:
        """Return everything that could not be believed, each thing once."""
        found = [problem for name in CONDITIONS for problem in getattr(self, name).problems]
        return tuple(dict.fromkeys(found)) if found else ()


class Seen(msgspec.Struct, frozen=True):
    """What the next look must know of this one: conditions that are differences, and what changes rarely."""

    activity: Activity | None = None
    processor: ProcessorTimes | None = None
    zones: Zones | None = None
    processes: ProcessLook | None = None
    groups: LimitedGroups | None = None


def sense(
    root: Path,
    state_folder: Path,
    *,
    now: Instant,
    limits: ConditionsConfig | None = None,
    before: Seen | None = None,
    own_processes: Sequence[int] = (),
    usage: Usage = NO_USAGE,
    sessions: Sequence[Session] = (),
    alarms: Mapping[str, float] | None = None,
) -> tuple[Conditions, Seen]:
    """Read every condition under `root`; hand the second result back to the next call. Never raises on bad files.

    `limits` names what is to be looked for (processes, hours, trip points). `own_processes` are the daemon's own: what
    they use is not used by others. `usage` is the supervisor's account of what training did. `sessions` and `alarms`
    are what events told (`mmd.conditions.events`): whose user went away, and which resource got short a moment ago.
    """
    before, limits, alarms = before or Seen(), limits or ConditionsConfig(), alarms or {}
    supplies = external_power.list_supplies(root)
    idle, activity = user_idle.read(root, now, before.activity, sessions)
    soc, zones = soc_temperature.read(root, now, before.zones, limits.soc_temperature)
    others, processor = cpu_used_by_others.read(root, now, before.processor, own_processes)
    memory, groups = memory_available.read(root, now, before.groups)
    exclusive, processes = exclusive_processes.read(root, now, before.processes, limits.exclusive_processes)
    conditions = Conditions(
        at=now,
        external_power=external_power.read(root, supplies),
        battery_charge=battery_charge.read(root, supplies),
        battery_temperature=battery_temperature.read(root, supplies),
        user_idle=idle,
        soc_temperature=soc,
        memory_available=memory,
        disk_free=disk_free.read(state_folder),
        cpu_used_by_others=others,
        cpu_pressure=cpu_pressure.read(root, alarms.get("cpu")),
        memory_pressure=memory_pressure.read(root, alarms.get("memory")),
        io_pressure=io_pressure.read(root, alarms.get("io")),
        exclusive_processes=exclusive,
        **reckoned(now, limits, usage),
    )
    return conditions, Seen(activity, processor, zones, processes, groups)


def reckoned(now: Instant, limits: ConditionsConfig, usage: Usage) -> dict[str, Reading[Any]]:
    """Return the conditions that are not felt: those of the clock, and those of what training did."""
    return {
        "allowed_hours": allowed_hours.read(now, limits.allowed_hours),
        "run_length": run_length.read(usage),
        "duty_cycle": duty_cycle.read(usage),
        "training_time_today": training_time_today.read(usage),
        "training_energy_today": training_energy_today.read(usage),
    }
