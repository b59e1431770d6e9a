"""Can the daemon feel this board: its battery, its user, its sensors, its disk, its clock?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mmd.conditions.events import Unavailable
from mmd.conditions.events.listen import openers
from mmd.conditions.external_power import list_supplies
from mmd.policy.levels import standing
from mmd.supervisor.doctor.finding import Finding, Patient, note, problem, see
from mmd.supervisor.memory import lesson_in_force

CLOCK_SLACK_SECONDS = 120.0
_EARLIEST = 1_735_689_600.0
"""1 January 2025: this program is younger than any clock that says an earlier time."""


def battery(patient: Patient) -> Iterator[Finding]:
    reading = patient.conditions.battery_charge
    if reading.value is not None:
        return
    root = Path(patient.config.daemon.sys_root)
    if list_supplies(root).batteries:
        yield problem(
            "battery_unreadable",
            f"There is a battery, and its charge cannot be read: {reading.detail}.",
            "Look at /sys/class/power_supply/*/capacity; until then only external power is waited for.",
        )
    else:
        power = patient.conditions.external_power
        yield note(
            "no_battery",
            f"No battery is seen, so no charge is waited for ({power.detail}).",
            "Nothing, if the board has none; else load the driver of its battery or UPS.",
        )


def idle(patient: Patient) -> Iterator[Finding]:
    if patient.conditions.user_idle.value is None and patient.config.conditions.user_idle.required:
        yield note(
            "no_idle_source",
            "No terminal and no input device is seen: the board counts as idle at all times.",
            "Nothing, if the board is headless; else let it read /dev/tty*, /dev/pts, /proc/interrupts and /sys.",
        )


def sensors(patient: Patient) -> Iterator[Finding]:
    for said in patient.conditions.problems():
        yield problem(
            "sensor_not_believed",
            f"{said}; it is ignored.",
            "Check the driver of that sensor; docs/conditions.md says what counts without it.",
        )


def events(patient: Patient) -> Iterator[Finding]:
    for name, opener in openers(Path(patient.config.daemon.sys_root), patient.config.conditions).items():
        try:
            opener().close()
        except Unavailable as reason:
            yield note(
                "no_event_source",
                f"No {name}: {reason}.",
                "Nothing: the daemon looks at the board on its own, and sees a change that much later.",
            )


def disk(patient: Patient) -> Iterator[Finding]:
    stands = standing("disk_free", patient.conditions, patient.config.conditions)
    if not stands.meets_start:
        yield problem(
            "disk_low",
            stands.message,
            f"Free some space until {stands.clears_when}, or lower `conditions.disk_free.start_mib`.",
        )


def memory(patient: Patient) -> Iterator[Finding]:
    stands = standing("memory_available", patient.conditions, patient.config.conditions)
    if not stands.meets_start:
        yield note(
            "memory_low",
            stands.message,
            f"Training starts once {stands.clears_when}; `conditions.memory_available.start_mib` is that level.",
        )


def trainer_memory(patient: Patient) -> Iterator[Finding]:
    see(patient.state.memory_file)
    lesson = lesson_in_force(patient.state, patient.config)
    if lesson is not None and (lesson.rounds or lesson.micro_batch is not None):
        yield note(
            "trainer_out_of_memory",
            lesson.told(),
            "Raise `daemon.trainer_memory_mib` if the board has more to spare: that also ends the smaller micro-batch.",
        )


def clock(patient: Patient) -> Iterator[Finding]:
    newest = max([_EARLIEST, *_times(patient.state.root)])
    behind = newest - patient.now.wall
    if behind > CLOCK_SLACK_SECONDS:
        yield problem(
            "clock_in_the_past",
            f"The clock is at least {_duration(behind)} in the past: something here was written later than it says.",
            "Set it (`timedatectl set-ntp true`), or fit a clock with a battery; hours and ages are wrong until then.",
        )


def _times(folder: Path) -> Iterator[float]:
    """Yield the times of what may be seen: the check holds without any."""
    yield from _time_of(folder)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            yield from _time_of(path)


def _time_of(path: Path) -> Iterator[float]:
    with contextlib.suppress(OSError):  # gone since it was listed, or hidden
        yield path.lstat().st_mtime


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
