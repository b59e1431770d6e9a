"""On which side of its start level and of its stop level is a condition? One short function a condition.

A condition without a reading (the board has no such sensor) meets both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmd.conditions import Conditions, Reading
from mmd.config import ConditionsConfig
from mmd.policy.reasons import Code


@dataclass(frozen=True)
class Standing:
    """Where one condition stands against its limits."""

    meets_start: bool
    """Good enough to start, or to go on after a suspension."""
    meets_stop: bool
    """Good enough not to interrupt what is running; whatever meets the start level meets this."""
    dwell_seconds: float
    """For how long the start level must be met without a break."""
    message: str
    clears_when: str
    """The start level in words."""
    start: str
    stop: str


def external_power(reading: Reading[bool], limits: ConditionsConfig) -> Standing:
    own = limits.external_power
    met = not own.required or reading.value is not False
    return Standing(
        meets_start=met,
        meets_stop=met,
        dwell_seconds=own.dwell_seconds,
        message=f"The board runs on battery: {reading.detail}.",
        clears_when="external power is connected",
        start="on" if own.required else "not required",
        stop="off" if own.required else "not required",
    )


def battery_charge(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.battery_charge
    return _at_least(
        reading,
        own.start_percent,
        own.stop_percent,
        own.dwell_seconds,
        unit=" %",
        message="The battery holds {value} ({detail}).",
        clears_when="the battery is charged to {start}",
    )


def user_idle(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.user_idle
    start, stop = (own.start_seconds, own.stop_seconds) if own.required else (0.0, 0.0)
    return _at_least(
        reading,
        start,
        stop,
        0.0,
        unit=" s",
        message="The board was used {value} ago ({detail}).",
        clears_when="nobody has touched the board for {start}",
    )


def soc_temperature(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.soc_temperature
    value = reading.value
    return Standing(
        meets_start=value is None or value <= own.start_celsius,
        meets_stop=value is None or value <= own.stop_celsius,
        dwell_seconds=own.dwell_seconds,
        message=f"The board is at {_number(value)} °C ({reading.detail}).",
        clears_when=f"the hottest thermal zone is at {own.start_celsius:g} °C or below",
        start=f"<= {own.start_celsius:g} °C",
        stop=f"> {own.stop_celsius:g} °C",
    )


def memory_available(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.memory_available
    return _at_least(
        reading,
        own.start_mib,
        own.stop_mib,
        own.dwell_seconds,
        unit=" MiB",
        message="{value} of memory are available ({detail}).",
        clears_when="{start} of memory are available",
    )


def disk_free(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.disk_free
    return _at_least(
        reading,
        own.start_mib,
        own.stop_mib,
        own.dwell_seconds,
        unit=" MiB",
        message="{value} are free on {detail}.",
        clears_when="{start} are free on the file system of the state folder",
    )


def cpu_used_by_others(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.cpu_used_by_others
    return _at_most(
        reading,
        own.start_percent,
        own.stop_percent,
        own.dwell_seconds,
        message="Other programs use {value} of the processors.",
        clears_when="other programs use {start} of the processors or less",
    )


def cpu_pressure(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.cpu_pressure
    return _pressure(reading, own.start_percent, own.stop_percent, own.dwell_seconds, "a processor")


def memory_pressure(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.memory_pressure
    return _pressure(reading, own.start_percent, own.stop_percent, own.dwell_seconds, "memory")


def io_pressure(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.io_pressure
    return _pressure(reading, own.start_percent, own.stop_percent, own.dwell_seconds, "a disk")


LEVELS: dict[str, tuple[Code, Callable[[Reading[Any], ConditionsConfig], Standing]]] = {
    "external_power": (Code.ON_BATTERY, external_power),
    "battery_charge": (Code.BATTERY_LOW, battery_charge),
    "user_idle": (Code.USER_ACTIVE, user_idle),
    "soc_temperature": (Code.SOC_HOT, soc_temperature),
    "memory_available": (Code.MEMORY_LOW, memory_available),
    "disk_free": (Code.DISK_LOW, disk_free),
    "cpu_used_by_others": (Code.CPU_BUSY, cpu_used_by_others),
    "cpu_pressure": (Code.CPU_PRESSURE, cpu_pressure),
    "memory_pressure": (Code.MEMORY_PRESSURE, memory_pressure),
    "io_pressure": (Code.IO_PRESSURE, io_pressure),
}


def standing(name: str, conditions: Conditions, limits: ConditionsConfig) -> Standing:
    """Return where the condition `name` stands."""
    return LEVELS[name][1](conditions.reading(name), limits)


def _at_least(
    reading: Reading[float],
    start: float,
    stop: float,
    dwell_seconds: float,
    *,
    unit: str,
    message: str,
    clears_when: str,
) -> Standing:
    value = reading.value
    words = {"value": f"{_number(value)}{unit}", "detail": reading.detail, "start": f"{start:g}{unit}"}
    return Standing(
        meets_start=value is None or value >= start,
        meets_stop=value is None or value >= stop,
        dwell_seconds=dwell_seconds,
        message=message.format_map(words),
        clears_when=clears_when.format_map(words),
        start=f">= {start:g}{unit}",
        stop=f"< {stop:g}{unit}",
    )


def _pressure(reading: Reading[float], start: float, stop: float, dwell_seconds: float, resource: str) -> Standing:
    return _at_most(
        reading,
        start,
        stop,
        dwell_seconds,
        message=f"Programs waited for {resource} in {{value}} of the last 10 s.",
        clears_when=f"programs wait for {resource} in {{start}} of the time or less",
    )


def _at_most(
    reading: Reading[float], start: float, stop: float, dwell_seconds: float, *, message: str, clears_when: str
) -> Standing:
    """A condition in percent that must not be high."""
    value = reading.value
    words = {"value": f"{_number(value)} %", "start": f"{start:g} %"}
    return Standing(
        meets_start=value is None or value <= start,
        meets_stop=value is None or value <= stop,
        dwell_seconds=dwell_seconds,
        message=message.format_map(words),
        clears_when=clears_when.format_map(words),
        start=f"<= {start:g} %",
        stop=f"> {stop:g} %",
    )


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if abs(value) < 100 and value != int(value) else f"{value:.0f}"
