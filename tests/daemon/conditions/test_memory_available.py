"""Does the daemon know how much memory it may take?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import memory_available

MIB = 1024 * 1024


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def test_the_machine_tells_what_is_available(bare: Board) -> None:
    assert memory_available.read(bare.memory(available_mib=512).root).value == 512.0


def test_a_tighter_control_group_counts_with_its_reclaimable_pages(bare: Board) -> None:
    bare.memory(available_mib=4000)
    bare.group_memory("/system.slice/mmd.service", limit=300 * MIB, usage=250 * MIB, inactive_file=20 * MIB)
    reading = memory_available.read(bare.root)
    assert reading.value == 70.0
    assert reading.detail == "the limit of the control group /system.slice/mmd.service"


def test_a_limit_on_a_group_above_counts_too(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a/b", limit="max", usage=10 * MIB)
    bare.write("sys/fs/cgroup/a/memory.max", str(100 * MIB)).write("sys/fs/cgroup/a/memory.current", str(60 * MIB))
    assert memory_available.read(bare.root).value == 40.0


def test_a_group_without_limit_does_not_count(bare: Board) -> None:
    bare.memory(available_mib=700).group_memory("/a", limit="max", usage=10 * MIB)
    assert memory_available.read(bare.root).value == 700.0


def test_groups_of_version_one_are_read(bare: Board) -> None:
    bare.memory(available_mib=4000).write("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/box")
    bare.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", str(90 * MIB))
    bare.write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", str(50 * MIB))
    bare.write("sys/fs/cgroup/memory/memory.limit_in_bytes", str(0x7FFFFFFFFFFFF000))
    bare.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1")
    assert memory_available.read(bare.root).value == 40.0


def test_a_group_that_is_over_its_limit_leaves_nothing(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a", limit=10 * MIB, usage=11 * MIB)
    assert memory_available.read(bare.root).value == 0.0


def test_a_group_path_cannot_lead_out_of_the_tree(bare: Board) -> None:
    bare.memory(available_mib=5).write("proc/self/cgroup", "0::/../../../etc")
    assert memory_available.read(bare.root).value == 5.0


@pytest.mark.parametrize("text", ["MemTotal: 1 kB", "MemAvailable: lots kB", "MemAvailable:"])
def test_a_meminfo_without_the_number_is_named(bare: Board, text: str) -> None:
    reading = memory_available.read(bare.write("proc/meminfo", text).root)
    assert reading.value is None
    assert reading.problems == ("/proc/meminfo has no MemAvailable",)


def test_a_missing_meminfo_is_named(bare: Board) -> None:
    assert memory_available.read(bare.root).problems == ("/proc/meminfo cannot be read",)


def test_the_level_from_which_the_kernel_throttles_is_a_limit_too(bare: Board) -> None:
    bare.memory(available_mib=4000).group_memory("/a", limit=300 * MIB, usage=50 * MIB)
    bare.write("sys/fs/cgroup/a/memory.high", str(200 * MIB))
    assert memory_available.read(bare.root).value == 150.0
