"""Is the kernel's pressure read, and what cannot be believed named?"""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Reading, cpu_pressure, io_pressure, memory_pressure

READ: dict[str, Callable[[Path], Reading[float]]] = {
    "cpu": cpu_pressure.read,
    "memory": memory_pressure.read,
    "io": io_pressure.read,
}


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


@pytest.mark.parametrize("resource", READ)
def test_the_share_of_the_last_ten_seconds_is_read(bare: Board, resource: str) -> None:
    for other in READ:
        bare.pressure(other, "99.00")
    reading = READ[resource](bare.pressure(resource, "12.34").root)
    assert (reading.value, reading.problems) == (12.34, ())


@pytest.mark.parametrize("resource", READ)
def test_a_kernel_without_pressure_is_no_problem(bare: Board, resource: str) -> None:
    assert READ[resource](bare.root) == Reading(None, "this kernel tells no pressure")


@pytest.mark.parametrize("percent", ["", "lots", "-1", "100.01", "nan", "inf"])
def test_a_share_that_cannot_be_is_named(bare: Board, percent: str) -> None:
    reading = cpu_pressure.read(bare.pressure("cpu", percent).root)
    assert reading.value is None
    assert reading.problems == ("/proc/pressure/cpu holds no average of ten seconds",)


@pytest.mark.parametrize("text", ["", "full avg10=3.00", "some", "some avg60=3.00", "avg10=3.00"])
def test_a_file_without_the_average_is_named(bare: Board, text: str) -> None:
    reading = io_pressure.read(bare.write("proc/pressure/io", text).root)
    assert reading.value is None
    assert reading.problems == ("/proc/pressure/io holds no average of ten seconds",)


@pytest.mark.parametrize("own", ["/system.slice/mmd.service", "/system.slice/mmd.service/supervisor"])
def test_where_the_machine_tells_none_the_group_of_daemon_and_trainer_does(bare: Board, own: str) -> None:
    averages = "some avg10=33.00 avg60=1.00 avg300=0.50 total=1"
    bare.write("proc/self/cgroup", f"0::{own}")
    bare.write("sys/fs/cgroup/system.slice/mmd.service/memory.pressure", averages)
    reading = memory_pressure.read(bare.root)
    assert (reading.value, reading.detail) == (33.0, "tasks of the daemon's control group that waited for memory")
    assert memory_pressure.read(bare.pressure("memory", "5.00").root).value == 5.0


@pytest.mark.parametrize("resource", READ)
def test_an_alarm_of_the_kernel_counts_where_the_average_lags_behind(bare: Board, resource: str) -> None:
    read = {"cpu": cpu_pressure.read, "memory": memory_pressure.read, "io": io_pressure.read}[resource]
    assert read(bare.pressure(resource, "3.00").root, 20.5).value == 20.5
    assert read(bare.pressure(resource, "30.00").root, 20.5).value == 30.0
    assert read(bare.remove(f"proc/pressure/{resource}").root, 20.5).value == 20.5, "the service manager told it"
