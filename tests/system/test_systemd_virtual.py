"""Do control groups and uevents of a real kernel do to the service what its parts promise?

`make systemd-test`, as root on Debian; it takes minutes, since the whole machine is emulated.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.arm.machine import CannotRun
from tests.support import eventually
from tests.system.booted import installed
from tests.system.virtual import VirtualMachine

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
GROUP = "/sys/fs/cgroup/system.slice/mmd.service"
CONFIGURATION = """
[training]
epochs = 5000
[conditions.user_idle]
required = false
[conditions.cpu_used_by_others]
start_percent = 100
stop_percent = 100
[conditions.cpu_pressure]
start_percent = 100
stop_percent = 100
[conditions.io_pressure]
start_percent = 100
stop_percent = 100
[conditions.disk_free]
start_mib = 1
stop_mib = 1
[daemon]
poll_seconds = 60
cooldown_seconds = 0
trainer_memory_mib = 400
"""
UNWATCHED = "[Service]\nWatchdogSec=0\n"
"""With a look a minute, whatever happens sooner was an event's doing."""
SOON_SECONDS = 45.0
MIB = 2**20


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    """A machine of its own with the service running, samples to train on, and training held."""
    try:
        with (
            installed(REPOSITORY, tmp_path_factory.mktemp("wheel")) as (root, incoming),
            VirtualMachine(root, incoming, tmp_path_factory.mktemp("machine")) as made,
        ):
            made.install(CONFIGURATION)
            made.write("/etc/systemd/system/mmd.service.d/test.conf", UNWATCHED)
            made.check("systemctl", "daemon-reload")
            made.ingest_the_owner()
            made.mmd("pause")
            made.check("systemctl", "start", "mmd")
            yield made
    except CannotRun as reason:
        pytest.skip(f"no machine with a kernel of its own can be emulated here: {reason}")


@pytest.fixture
def training(machine: VirtualMachine) -> None:
    """Hold training no longer."""
    machine.mmd("resume")


def read(machine: VirtualMachine, name: str) -> str:
    return machine.check("cat", f"{GROUP}/{name}").strip()


def trainers(machine: VirtualMachine) -> list[str]:
    return read(machine, "trainer/cgroup.procs").split()


def is_at_work(machine: VirtualMachine) -> bool:
    """Return whether a trainer has its group to itself and has read its networks; a step takes minutes in here."""
    return len(trainers(machine)) == 1 and int(read(machine, "trainer/memory.current")) > 40 * MIB


def journal(machine: VirtualMachine) -> str:
    return machine.check("journalctl", "-u", "mmd", "-o", "cat", "--no-pager")


def used_seconds(machine: VirtualMachine, group: str) -> float:
    words = machine.check("cat", f"/sys/fs/cgroup/system.slice/{group}/cpu.stat").split()
    return int(words[words.index("usage_usec") + 1]) / 1e6


def test_a_uevent_of_the_kernel_makes_the_daemon_look_at_once(machine: VirtualMachine) -> None:
    """Of a cooling device, the one kind of the two that there is here. Once asked, it looks again in a minute only."""
    assert "held_by_user" in [reason["code"] for reason in machine.status()["reasons"]]
    machine.check("sh", "-c", "rm /var/lib/mmd/held && echo change > /sys/class/thermal/cooling_device0/uevent")
    eventually(lambda: "held_by_user" not in machine.last_reasons(), within=SOON_SECONDS, every=0.5)


@pytest.mark.usefixtures("training")
def test_the_trainer_is_the_last_to_get_memory_processors_and_disks(machine: VirtualMachine) -> None:
    eventually(lambda: is_at_work(machine), within=300, every=1)
    (trainer,) = trainers(machine)
    assert trainer != machine.unit("MainPID")
    assert read(machine, "supervisor/cgroup.procs").split() == [machine.unit("MainPID")]
    assert read(machine, "trainer/memory.max") == str(400 * MIB)
    assert read(machine, "trainer/memory.oom.group") == "1"
    assert read(machine, "trainer/cpu.idle") == "1"
    assert read(machine, "trainer/io.weight") == "default 1"
    assert machine.unit("MemoryMax") != "infinity"


@pytest.mark.usefixtures("training")
def test_beside_a_busy_process_the_trainer_gets_next_to_nothing(machine: VirtualMachine) -> None:
    eventually(lambda: is_at_work(machine), within=300, every=1)
    (trainer,) = trainers(machine)
    machine.check("systemd-run", "--unit=busy", "sh", "-c", "while :; do :; done")
    before = used_seconds(machine, "mmd.service/trainer"), used_seconds(machine, "busy.service")
    machine.check("sleep", "10")
    after = used_seconds(machine, "mmd.service/trainer"), used_seconds(machine, "busy.service")
    machine.check("systemctl", "stop", "busy")
    assert trainers(machine) == [trainer], "it was there all the time"
    assert after[0] - before[0] < 0.1 * (after[1] - before[1])
    machine.check("sleep", "5")
    assert used_seconds(machine, "mmd.service/trainer") > after[0] + 1, "and works where nobody else does"


def test_the_service_manager_gives_the_daemon_a_file_to_watch_and_it_is_watched(machine: VirtualMachine) -> None:
    environment = machine.check("cat", f"/proc/{machine.unit('MainPID')}/environ").split("\0")
    assert f"MEMORY_PRESSURE_WATCH={GROUP}/memory.pressure" in environment
    log = journal(machine)
    assert "no memory watch of the service manager" not in log
    assert "no uevents" not in log


@pytest.mark.usefixtures("training")
def test_a_clock_that_is_set_forward_and_back_disturbs_nothing(machine: VirtualMachine) -> None:
    """What the jump wakes (timers of days) may be felt: an emulated machine is slow."""
    eventually(lambda: is_at_work(machine), within=300, every=1)
    before = machine.unit("MainPID")
    for jump in ("+3 days", "-30 days", "+27 days"):
        machine.check("date", "-s", jump)
        found = machine.status()
        assert {reason["code"] for reason in found["reasons"]} <= {"memory_pressure"}
        assert found["usage"]["minutes_today"] < 60
        assert found["round"]["number"] == 1
    assert machine.unit("MainPID") == before
    assert machine.unit("NRestarts") == "0"


@pytest.mark.usefixtures("training")
def test_a_trainer_that_cannot_keep_its_memory_is_stopped_with_the_reason_and_leaves(machine: VirtualMachine) -> None:
    """Above its `memory.high` the kernel takes a group's pages and lets it wait for each that it wants back."""
    eventually(lambda: is_at_work(machine), within=300, every=1)
    machine.check("sh", "-c", f"echo 30M > {GROUP}/trainer/memory.high")
    eventually(lambda: "memory_pressure" in machine.last_reasons(), within=2 * SOON_SECONDS, every=0.5)
    eventually(lambda: trainers(machine) == [], within=60, every=1)
    machine.check("sh", "-c", f"echo max > {GROUP}/trainer/memory.high")


@pytest.mark.usefixtures("training")
def test_running_out_of_the_groups_memory_costs_the_round_and_never_the_daemon(machine: VirtualMachine) -> None:
    machine.ask_for_a_round()
    eventually(lambda: is_at_work(machine), within=300, every=1)
    before = machine.unit("MainPID")
    machine.check("sh", "-c", f"echo 10M > {GROUP}/trainer/memory.max")
    eventually(lambda: "round=1 abandoned" in journal(machine), within=120, every=1)
    assert "oom_kill 0" not in read(machine, "trainer/memory.events").splitlines()
    assert machine.unit("MainPID") == before
    assert machine.unit("NRestarts") == "0"
