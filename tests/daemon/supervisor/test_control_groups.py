"""Is a delegated control group divided as the kernel demands, and left alone when it is not ours?"""

import os
from pathlib import Path

import pytest

from mmd.supervisor.control_groups import TrainerGroup, delegated_group, machine_oom_kills, take_over

NAME = "system.slice/mmd.service"


def service(root: Path, *, mount: str = "sys/fs/cgroup", name: str = NAME, controllers: str = "cpu io memory") -> Path:
    """Make the control group of a service that this process is in."""
    group = root / mount / name
    for part in (group, group / "supervisor", group / "trainer"):  # the kernel makes the files with the folder
        part.mkdir(parents=True)
        for file in ("cgroup.procs", "cgroup.subtree_control"):
            (part / file).write_text("")
    (group / "cgroup.controllers").write_text(controllers)
    for file in ("memory.max", "memory.oom.group", "cpu.idle", "cpu.weight", "io.weight"):
        (group / "trainer" / file).write_text("")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"1:name=systemd:/elsewhere\n0::/{name}\n")
    return group


@pytest.fixture(autouse=True)
def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """These folders carry no mark of systemd's; whoever runs the tests owns them."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize("mount", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
def test_the_supervisor_moves_aside_and_hands_the_controllers_down(tmp_path: Path, mount: str) -> None:
    group = service(tmp_path, mount=mount)
    trainers = take_over(tmp_path)
    assert trainers == TrainerGroup(group / "trainer")
    assert (group / "supervisor/cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text().endswith("+memory")


def test_the_trainer_is_limited_in_memory_and_last_in_line(tmp_path: Path) -> None:
    group = service(tmp_path)
    trainers = take_over(tmp_path)
    assert trainers is not None
    trainers.limit(100)
    told = {path.name: path.read_text() for path in (group / "trainer").iterdir() if "cgroup" not in path.name}
    assert told == {
        "memory.max": str(100 * 1024 * 1024),
        "memory.oom.group": "1",
        "cpu.idle": "1",
        "cpu.weight": "",
        "io.weight": "default 1",
    }


def test_a_kernel_without_idle_groups_gives_the_lowest_weight(tmp_path: Path) -> None:
    group = service(tmp_path)
    (group / "trainer/cpu.idle").unlink()
    TrainerGroup(group / "trainer").limit(100)
    assert (group / "trainer/cpu.weight").read_text() == "1"


def test_what_the_machine_does_not_offer_is_left_out(tmp_path: Path) -> None:
    group = service(tmp_path, controllers="")
    for file in ("memory.max", "memory.oom.group", "cpu.idle", "cpu.weight", "io.weight"):
        (group / "trainer" / file).unlink()
    trainers = take_over(tmp_path)
    assert trainers is not None
    trainers.limit(100)
    assert trainers.oom_kills() == 0
    assert not (group / "trainer/memory.max").exists()
    assert (group / "cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize("name", ["user.slice/user-0.slice/session-3.scope", "", "docker/abc"])
def test_a_group_that_is_no_service_is_left_alone(tmp_path: Path, name: str) -> None:
    service(tmp_path, name=name)
    assert take_over(tmp_path) is None


def test_root_divides_only_what_systemd_marked_as_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = service(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert delegated_group(tmp_path) is None
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1")
    assert delegated_group(tmp_path) == group


def test_a_board_without_control_groups_has_none(tmp_path: Path) -> None:
    assert take_over(tmp_path) is None
    assert machine_oom_kills(tmp_path) == 0


def test_kills_for_memory_are_counted(tmp_path: Path) -> None:
    group = service(tmp_path)
    (group / "trainer/memory.events").write_text("low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 5\n")
    assert TrainerGroup(group / "trainer").oom_kills() == 2
    assert machine_oom_kills(tmp_path) == 5
