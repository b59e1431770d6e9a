"""On which side of its start level and of its stop level is a condition? One short function a condition.

A condition without a reading (the board has no such sensor) meets both.
"""

from collections.abc import Callable
from typing import Any

from mmd.conditions import Conditions, Reading
from mmd.limits import ConditionsConfig
from mmd.policy.reasons import Code
from mmd.policy.standing import Standing, at_least, at_most, below_budget, yes_or_no


def external_power(reading: Reading[bool], limits: ConditionsConfig) -> Standing:
    own = limits.external_power
    is_met = not own.required or reading.value is not False
    return yes_or_no(
        is_met=is_met,
        dwell_seconds=own.dwell_seconds,
        message=f"The board runs on battery: {reading.detail}.",
        clears_when="external power is connected",
        start="on" if own.required else "not required",
        stop="off" if own.required else "not required",
    )


def battery_charge(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.battery_charge
    return at_least(
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
    return at_least(
        reading,
        start,
        stop,
        0.0,
        unit=" s",
        message="The board was used {value} ago ({detail}).",
        clears_when="nobody has touched the board for {start}",
    )


def battery_temperature(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.battery_temperature
    return at_most(
        reading,
        own.start_celsius,
        own.stop_celsius,
        own.dwell_seconds,
        unit=" °C",
        message="The battery is at {value} ({detail}).",
        clears_when="the hottest battery is at {start} or below",
    )


def soc_temperature(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.soc_temperature
    return at_most(
        reading,
        own.start_celsius,
        own.stop_celsius,
        own.dwell_seconds,
        unit=" °C",
        message="The board is at {value} ({detail}).",
        clears_when="that thermal zone is at {start} or below",
    )


def memory_available(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.memory_available
    return at_least(
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
    return at_least(
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
    return at_most(
        reading,
        own.start_percent,
        own.stop_percent,
        own.dwell_seconds,
        unit=" %",
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


def _pressure(reading: Reading[float], start: float, stop: float, dwell_seconds: float, resource: str) -> Standing:
    return at_most(
        reading,
        start,
        stop,
        dwell_seconds,
        unit=" %",
        message=f"Programs waited for {resource} in {{value}} of the last 10 s.",
        clears_when=f"programs wait for {resource} in {{start}} of the time or less",
    )


def exclusive_processes(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.exclusive_processes
    return yes_or_no(
        is_met=not reading.value,
        dwell_seconds=own.dwell_seconds,
        message=f"A program wants the board for itself: {reading.detail}.",
        clears_when=f"{' and '.join(own.names)} {'have' if len(own.names) > 1 else 'has'} ended",
        start="0" if own.names else "no limit",
    )


def allowed_hours(reading: Reading[bool], limits: ConditionsConfig) -> Standing:
    return yes_or_no(
        is_met=reading.value is not False,
        dwell_seconds=0.0,
        message=f"Training may not run at this hour: {reading.detail}.",
        clears_when=f"the local clock is within {' or '.join(limits.allowed_hours.windows)}",
        start=_windows(limits.allowed_hours.windows),
    )


def _windows(windows: tuple[str, ...]) -> str:
    if not windows:
        return "no limit"
    return windows[0] if len(windows) == 1 else f"{len(windows)} windows"


def run_length(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.run_length
    return below_budget(
        reading,
        own.stop_minutes,
        unit=" min",
        message="Training has run for {value} without a rest.",
        clears_when="training has rested",
        rest_seconds=own.rest_minutes * 60,
    )


def duty_cycle(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    own = limits.duty_cycle
    if own.share_percent >= 100:
        return yes_or_no(is_met=True, dwell_seconds=0.0, message="", clears_when="", start="no limit")
    return at_least(
        reading,
        own.start_percent,
        own.stop_percent,
        0.0,
        unit=" %",
        message=f"Training used its {own.share_percent:g} % share of the time: {{value}} of the burst are left.",
        clears_when="{start} of the burst are there again",
        is_stop_beyond=True,
    )


def training_time_today(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    return below_budget(
        reading,
        limits.training_time_today.stop_minutes,
        unit=" min",
        message="Training has run for {value} today, of {start} that it may.",
        clears_when="the next day begins",
    )


def training_energy_today(reading: Reading[float], limits: ConditionsConfig) -> Standing:
    return below_budget(
        reading,
        limits.training_energy_today.stop_watt_hours,
        unit=" Wh",
        message="Training has used {value} today, of {start} that it may.",
        clears_when="the next day begins",
    )


LEVELS: dict[str, tuple[Code, Callable[[Reading[Any], ConditionsConfig], Standing]]] = {
    "external_power": (Code.ON_BATTERY, external_power),
    "battery_charge": (Code.BATTERY_LOW, battery_charge),
    "battery_temperature": (Code.BATTERY_HOT, battery_temperature),
    "user_idle": (Code.USER_ACTIVE, user_idle),
    "soc_temperature": (Code.SOC_HOT, soc_temperature),
    "memory_available": (Code.MEMORY_LOW, memory_available),
    "disk_free": (Code.DISK_LOW, disk_free),
    "cpu_used_by_others": (Code.CPU_BUSY, cpu_used_by_others),
    "cpu_pressure": (Code.CPU_PRESSURE, cpu_pressure),
    "memory_pressure": (Code.MEMORY_PRESSURE, memory_pressure),
    "io_pressure": (Code.IO_PRESSURE, io_pressure),
    "exclusive_processes": (Code.EXCLUSIVE_PROCESS, exclusive_processes),
    "allowed_hours": (Code.OUTSIDE_HOURS, allowed_hours),
    "run_length": (Code.RUN_TOO_LONG, run_length),
    "duty_cycle": (Code.DUTY_CYCLE, duty_cycle),
    "training_time_today": (Code.TIME_BUDGET_SPENT, training_time_today),
    "training_energy_today": (Code.ENERGY_BUDGET_SPENT, training_energy_today),
}


def standing(name: str, conditions: Conditions, limits: ConditionsConfig) -> Standing:
    """Return where the condition `name` stands."""
    return LEVELS[name][1](conditions.reading(name), limits)
