"""Which boards do the shipped traces tell of? `python -m tests.traces.make` writes them and what they lead to anew."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmd.config import Config
from mmd.supervisor.trace import read_trace, replay

FOLDER = Path(__file__).parent
HOUR, MINUTE = 3600.0, 60.0
CALM: dict[str, Any] = {
    "external_power": True,
    "battery_charge": 90.0,
    "battery_temperature": 28.0,
    "soc_temperature": 45.0,
    "memory_available": 2000.0,
    "disk_free": 5000.0,
    "cpu_used_by_others": 2.0,
    "cpu_pressure": 1.0,
    "memory_pressure": 0.0,
    "io_pressure": 0.0,
    "exclusive_processes": 0.0,
    "user_idle": 600.0,
}
Story = Iterator[tuple[float, dict[str, Any]]]


def phone_day() -> Story:
    """Charged over night (and warm from it), unplugged in the morning, used, plugged in again with a low battery."""
    yield 0, {"user_idle": 5.0}
    yield 1 * HOUR, {"user_idle": 3605.0, "battery_temperature": 44.0}
    yield 1.5 * HOUR, {"user_idle": 5405.0, "battery_temperature": 36.0}
    yield 7 * HOUR, {"user_idle": 1.0, "cpu_used_by_others": 35.0}
    yield 7.5 * HOUR, {"external_power": False, "user_idle": 1.0}
    yield 12 * HOUR, {"external_power": False, "battery_charge": 60.0, "user_idle": 900.0}
    yield 19 * HOUR, {"external_power": False, "battery_charge": 25.0, "user_idle": 30.0}
    yield 20 * HOUR, {"battery_charge": 25.0, "user_idle": 60.0}
    yield 21 * HOUR, {"battery_charge": 55.0, "user_idle": 3660.0}
    yield 24 * HOUR, {}


def failing_fan() -> Story:
    """It heats up while it trains and cools down while it does not."""
    for cycle in range(4):
        start = cycle * 20 * MINUTE
        for minute, celsius in enumerate([50, 58, 66, 72, 76, 74, 70, 66, 62, 59, 56]):
            yield start + minute * MINUTE, {"soc_temperature": float(celsius)}
    yield 80 * MINUTE, {}


def flapping_charger() -> Story:
    """A loose plug: on and off every two seconds for a minute, then it holds."""
    for flap in range(30):
        yield 60 + 2.0 * flap, {"external_power": flap % 2 == 0}
    yield 120, {}
    yield 300, {}


def headless_server() -> Story:
    """No battery, no terminal, no thermal zone; a backup every six hours keeps disk and processors busy."""
    bare = {"battery_charge": None, "battery_temperature": None, "user_idle": None, "soc_temperature": None}
    yield 0, bare
    for hour in (6, 12, 18):
        yield hour * HOUR, {**bare, "cpu_used_by_others": 70.0, "io_pressure": 75.0}
        yield hour * HOUR + 10 * MINUTE, {**bare, "cpu_used_by_others": 40.0, "io_pressure": 50.0}
        yield hour * HOUR + 20 * MINUTE, bare
    yield 24 * HOUR, bare


def laptop_lid() -> Story:
    """Asleep with its lid closed (nothing is sensed then), opened, used, memory nearly full, closed again."""
    yield 0, {}
    yield 2 * HOUR, {"user_idle": 0.0, "external_power": False, "battery_charge": 88.0}
    yield 2.5 * HOUR, {"user_idle": 10.0, "memory_available": 120.0, "memory_pressure": 30.0}
    yield 3 * HOUR, {"user_idle": 200.0, "memory_available": 250.0, "memory_pressure": 10.0}
    yield 4 * HOUR, {"user_idle": 3800.0}
    yield 5 * HOUR, {"user_idle": 7400.0}


STORIES = {story.__name__: story for story in (phone_day, failing_fan, flapping_charger, headless_server, laptop_lid)}


def trace_text(name: str) -> str:
    lines: list[dict[str, Any]] = [{"trace": 1, "wall": 1_750_000_000.0}]
    lines += [{"at": float(at), "readings": {**CALM, **changed}} for at, changed in STORIES[name]()]
    return "".join(json.dumps(line) + "\n" for line in lines)


def transitions_text(trace: Path) -> str:
    changes = replay(read_trace(trace), Config())
    return "".join(f"{change.at:8.0f} {' '.join([change.state, *change.reasons])}\n" for change in changes)


if __name__ == "__main__":
    for name in STORIES:
        path = FOLDER / f"{name}.jsonl"
        path.write_text(trace_text(name))
        path.with_suffix(".txt").write_text(transitions_text(path))
