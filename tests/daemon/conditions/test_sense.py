"""Is the board read as a whole, and does nothing that it says stop the daemon?"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fakes.board import Board

from mmd.conditions import disk_free, sense
from mmd.conditions.kinds import CONDITIONS
from mmd.conditions.reading import system_clock
from mmd.limits import ConditionsConfig

KERNEL_FILES = [
    "sys/class/power_supply/usb/online",
    "sys/class/power_supply/usb/type",
    "sys/class/power_supply/battery/status",
    "sys/class/power_supply/battery/capacity",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/type",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/power_supply/battery/temp",
    "proc/meminfo",
    "proc/interrupts",
    "proc/self/cgroup",
    "proc/pressure/cpu",
    "proc/pressure/memory",
    "proc/pressure/io",
    "proc/stat",
]


def test_a_healthy_board_is_read_without_complaint(tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    conditions, _ = sense(board.root, tmp_path, now=system_clock())
    assert conditions.external_power.value is True
    assert conditions.battery_charge.value == 90.0
    assert conditions.soc_temperature.value == 45.0
    assert conditions.memory_available.value == 2048.0
    assert conditions.problems() == ()


def test_an_empty_tree_is_a_powered_headless_board(tmp_path: Path) -> None:
    conditions, seen = sense(Board(tmp_path / "root", is_bare=True).root, tmp_path, now=system_clock())
    assert conditions.external_power.value is True
    assert conditions.user_idle.value is None
    assert seen.processor is None
    assert conditions.cpu_used_by_others.value is conditions.cpu_pressure.value is None


def test_this_machine_is_read_too(tmp_path: Path) -> None:
    conditions, _ = sense(Path("/"), tmp_path, now=system_clock())
    assert (conditions.memory_available.value or 0) > 0


def test_a_problem_that_two_conditions_meet_is_told_once(tmp_path: Path) -> None:
    board = Board(tmp_path / "root").write("sys/class/power_supply/odd/type", "Fusion")
    conditions, _ = sense(board.root, tmp_path, now=system_clock())
    assert len(conditions.problems()) == 1


def test_free_space_of_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    reading = disk_free.read(tmp_path / "gone")
    assert reading.value is None
    assert "No such file or directory" in reading.problems[0]


def test_every_condition_has_its_table_in_the_configuration() -> None:
    assert tuple(CONDITIONS) == ConditionsConfig.__struct_fields__


@pytest.mark.parametrize("name", KERNEL_FILES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.one_of(st.binary(max_size=80), st.from_regex(r"-?[0-9]{1,30}", fullmatch=True).map(str.encode)))
@example(garbage=b"9" * 5000)
@example(garbage=b"MemAvailable: " + b"9" * 5000 + b" kB")
@example(garbage=b"intr 5 " + b"9" * 5000 + b" 1")
@example(garbage=b" 1: " + b"9" * 5000 + b" i8042")
def test_no_content_of_any_kernel_file_stops_the_daemon(tmp_path: Path, name: str, garbage: bytes) -> None:
    board = Board(tmp_path / "root").trips(0, passive=80_000).write("sys/class/power_supply/battery/temp", "300")
    _, seen = sense(board.root, tmp_path, now=system_clock())
    board.write(name, garbage)
    sense(board.root, tmp_path, now=system_clock(), before=seen)
    conditions, _ = sense(board.root, tmp_path, now=system_clock())
    assert isinstance(conditions.external_power.value, bool)


@pytest.mark.parametrize("name", [name for name in KERNEL_FILES if name != "proc/self/cgroup"])
def test_a_folder_in_the_place_of_a_kernel_file_is_survived(tmp_path: Path, name: str) -> None:
    board = Board(tmp_path / "root").write(name, "").remove(name)
    (board.root / name).mkdir()
    conditions, _ = sense(board.root, tmp_path, now=system_clock())
    assert isinstance(conditions.external_power.value, bool)
