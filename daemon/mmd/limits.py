"""Which levels has each condition, and for how long must it hold? The `[conditions]` part of the configuration.

One structure a condition, each key with its default and its unit. `None` is no limit.
"""

import math
from typing import Annotated, Any

import msgspec

from mmd.hours import parse_window

NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Percent = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the configuration."""


class ExternalPower(Section, frozen=True):
    """`[conditions.external_power]`"""

    required: bool = True
    dwell_seconds: NonNegative = 5.0


class BatteryCharge(Section, frozen=True):
    """`[conditions.battery_charge]`"""

    start_percent: Percent = 50.0
    stop_percent: Percent = 30.0
    dwell_seconds: NonNegative = 30.0


class BatteryTemperature(Section, frozen=True):
    """`[conditions.battery_temperature]`: the hottest battery. Heat ages a cell, and most while it charges."""

    start_celsius: float = 38.0
    stop_celsius: float = 43.0
    dwell_seconds: NonNegative = 60.0


class UserIdle(Section, frozen=True):
    """`[conditions.user_idle]`: how long nobody has touched the board."""

    required: bool = True
    start_seconds: NonNegative = 300.0
    stop_seconds: NonNegative = 30.0


class SocTemperature(Section, frozen=True):
    """`[conditions.soc_temperature]`: the thermal zone that is nearest to its limit."""

    start_celsius: float = 60.0
    stop_celsius: float = 75.0
    trip_margin_celsius: float = 5.0
    """A zone stops training this far below its own lowest trip point where that is below `stop_celsius`."""
    dwell_seconds: NonNegative = 30.0


class MemoryAvailable(Section, frozen=True):
    """`[conditions.memory_available]`"""

    start_mib: NonNegative = 300.0
    stop_mib: NonNegative = 150.0
    dwell_seconds: NonNegative = 30.0


class DiskFree(Section, frozen=True):
    """`[conditions.disk_free]`: on the file system of the state folder."""

    start_mib: NonNegative = 300.0
    stop_mib: NonNegative = 100.0
    dwell_seconds: NonNegative = 30.0


class CpuUsedByOthers(Section, frozen=True):
    """`[conditions.cpu_used_by_others]`: of all processors together, the daemon's own work left out."""

    start_percent: Percent = 30.0
    stop_percent: Percent = 60.0
    dwell_seconds: NonNegative = 30.0


class CpuPressure(Section, frozen=True):
    """`[conditions.cpu_pressure]`: the share of time in which somebody waited for a processor."""

    start_percent: Percent = 40.0
    stop_percent: Percent = 80.0
    dwell_seconds: NonNegative = 30.0


class MemoryPressure(Section, frozen=True):
    """`[conditions.memory_pressure]`: the share of time in which somebody waited for memory."""

    start_percent: Percent = 5.0
    stop_percent: Percent = 20.0
    dwell_seconds: NonNegative = 30.0


class IoPressure(Section, frozen=True):
    """`[conditions.io_pressure]`: the share of time in which somebody waited for a disk."""

    start_percent: Percent = 30.0
    stop_percent: Percent = 70.0
    dwell_seconds: NonNegative = 30.0


class ExclusiveProcesses(Section, frozen=True):
    """`[conditions.exclusive_processes]`: programs that want the board for themselves."""

    names: tuple[str, ...] = ()
    """As `ps -o comm` shows them."""
    dwell_seconds: NonNegative = 30.0


class AllowedHours(Section, frozen=True):
    """`[conditions.allowed_hours]`: hours of the week, by the local clock."""

    windows: tuple[str, ...] = ()
    """`22:00-07:00`, `mon-fri 22:00-07:00`, `sat,sun 00:00-24:00`; none allows every hour."""


class RunLength(Section, frozen=True):
    """`[conditions.run_length]`: the longest run without an interruption, and the rest after it."""

    stop_minutes: Positive | None = None
    rest_minutes: NonNegative = 15.0


class DutyCycle(Section, frozen=True):
    """`[conditions.duty_cycle]`: the share of the time that may be trained, as a bucket of minutes."""

    share_percent: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] = 100.0
    """In the long run; the bucket fills at this rate. 100: always."""
    burst_minutes: Positive = 10.0
    """What the bucket holds: the longest run out of a full one is a little longer than this."""
    start_percent: Percent = 50.0
    """Of the bucket."""
    stop_percent: Percent = 0.0


class TrainingTimeToday(Section, frozen=True):
    """`[conditions.training_time_today]`: a budget of minutes for each day of the local clock."""

    stop_minutes: Positive | None = None


class TrainingEnergyToday(Section, frozen=True):
    """`[conditions.training_energy_today]`: a budget of energy for each day, where the board has a power meter."""

    stop_watt_hours: Positive | None = None


class ConditionsConfig(Section, frozen=True):
    """`[conditions]`: start level, stop level and dwell of each condition."""

    external_power: ExternalPower = ExternalPower()
    battery_charge: BatteryCharge = BatteryCharge()
    battery_temperature: BatteryTemperature = BatteryTemperature()
    user_idle: UserIdle = UserIdle()
    soc_temperature: SocTemperature = SocTemperature()
    memory_available: MemoryAvailable = MemoryAvailable()
    disk_free: DiskFree = DiskFree()
    cpu_used_by_others: CpuUsedByOthers = CpuUsedByOthers()
    cpu_pressure: CpuPressure = CpuPressure()
    memory_pressure: MemoryPressure = MemoryPressure()
    io_pressure: IoPressure = IoPressure()
    exclusive_processes: ExclusiveProcesses = ExclusiveProcesses()
    allowed_hours: AllowedHours = AllowedHours()
    run_length: RunLength = RunLength()
    duty_cycle: DutyCycle = DutyCycle()
    training_time_today: TrainingTimeToday = TrainingTimeToday()
    training_energy_today: TrainingEnergyToday = TrainingEnergyToday()


HIGH_IS_BAD = frozenset(
    {
        "battery_temperature",
        "soc_temperature",
        "cpu_used_by_others",
        "cpu_pressure",
        "memory_pressure",
        "io_pressure",
    }
)
"""Conditions with two levels whose stop level lies above the start level."""


def contradiction(limits: ConditionsConfig) -> str | None:
    """Say which keys cannot be meant, or `None`."""
    for name in ConditionsConfig.__struct_fields__:
        section = getattr(limits, name)
        for key in section.__struct_fields__:
            value = getattr(section, key)
            if isinstance(value, float) and math.isnan(value):
                return f"conditions.{name}.{key} is not a number; give one, or leave it out."
        found = _turned_round(name, section)
        if found is not None:
            return found
    for window in limits.allowed_hours.windows:
        try:
            parse_window(window)
        except ValueError as error:
            return f"conditions.allowed_hours.windows has {window!r}: {error}."
    for process in limits.exclusive_processes.names:
        if not process.strip() or "/" in process:
            return f"conditions.exclusive_processes.names has {process!r}; give names as `ps -o comm` shows them."
    return None


def _turned_round(name: str, section: Any) -> str | None:
    """Hold start level and stop level of one condition the right way round."""
    for field in section.__struct_fields__:
        unit = field.removeprefix("start")
        if unit == field:
            continue
        low, high = ("start", "stop") if name in HIGH_IS_BAD else ("stop", "start")
        lower, upper = getattr(section, low + unit), getattr(section, high + unit)
        if lower > upper:
            return f"conditions.{name}.{low}{unit} = {lower:g} is above {high}{unit} = {upper:g}; swap them."
    return None


def dwell_seconds(section: Any) -> float:
    """Return for how long this condition must hold, or be rested, before it counts."""
    if isinstance(section, RunLength):
        return section.rest_minutes * 60
    seconds: float = getattr(section, "dwell_seconds", 0.0)
    return seconds
