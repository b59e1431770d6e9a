"""Does the daemon know how much memory it may take?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Instant, Reading, memory_available

MIB = 1024 * 1024


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def read(board: Board) -> Reading[float]:
    return memory_available.read(board.root, Instant(0.0, 0.0), None)[0]


def test_the_machine_tells_what_is_available(bare: Board) -> None:
    assert read(bare.memory(available_mib=512)).value == 512.0


def test_a_tighter_control_group_counts_with_its_reclaimable_pages(bare: Board) -> None:
    bare.memory(available_mib=4000)
    bare.group_memory("/system.slice/mmd.service", limit=300 * MIB, usage=250 * MIB, inactive_file=20 * MIB)
    reading = read(bare)
    assert reading.value == 70.0
    assert reading.detail == "the limit of the control group /system.slice/mmd.service"


def test_a_limit_on_a_group_above_counts_too(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a/b", limit="max", usage=10 * MIB)
    bare.write("sys/fs/cgroup/a/memory.max", str(100 * MIB)).write("sys/fs/cgroup/a/memory.current", str(60 * MIB))
    assert read(bare).value == 40.0


def test_a_group_without_limit_does_not_count(bare: Board) -> None:
    bare.memory(available_mib=700).group_memory("/a", limit="max", usage=10 * MIB)
    assert read(bare).value == 700.0


def test_groups_of_version_one_are_read(bare: Board) -> None:
    bare.memory(available_mib=4000).write("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/box")
    bare.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", str(90 * MIB))
    bare.write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", str(50 * MIB))
    bare.write("sys/fs/cgroup/memory/memory.limit_in_bytes", str(0x7FFFFFFFFFFFF000))
    bare.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1")
    assert read(bare).value == 40.0


def test_a_group_that_is_over_its_limit_leaves_nothing(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a", limit=10 * MIB, usage=11 * MIB)
    assert read(bare).value == 0.0


def test_a_group_path_cannot_lead_out_of_the_tree(bare: Board) -> None:
    bare.memory(available_mib=5).write("proc/self/cgroup", "0::/../../../etc")
    assert read(bare).value == 5.0


@pytest.mark.parametrize("text", ["MemTotal: 1 kB", "MemAvailable: lots kB", "MemAvailable:"])
def test_a_meminfo_without_the_number_is_named(bare: Board, text: str) -> None:
    reading = read(bare.write("proc/meminfo", text))
    assert reading.value is None
    assert reading.problems == ("/proc/meminfo has no MemAvailable",)


def test_a_missing_meminfo_is_named(bare: Board) -> None:
    assert read(bare).problems == ("/proc/meminfo cannot be read",)


def test_the_level_from_which_the_kernel_throttles_is_a_limit_too(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a", limit=300 * MIB, usage=50 * MIB)
    bare.write("sys/fs/cgroup/a/memory.high", str(200 * MIB))
    assert read(bare).value == 150.0


def test_limits_are_looked_for_now_and_then_and_room_is_read_always(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a", limit=300 * MIB, usage=50 * MIB)
    _, groups = memory_available.read(bare.root, Instant(0.0, 0.0), None)
    bare.group_memory("/a", limit=300 * MIB, usage=290 * MIB)
    assert memory_available.read(bare.root, Instant(1.0, 1.0), groups)[0].value == 10.0
    bare.write("sys/fs/cgroup/memory.max", str(20 * MIB)).write("sys/fs/cgroup/memory.current", str(15 * MIB))
    assert memory_available.read(bare.root, Instant(2.0, 2.0), groups)[0].value == 10.0
    assert memory_available.read(bare.root, Instant(30.0, 30.0), groups)[0].value == 5.0
