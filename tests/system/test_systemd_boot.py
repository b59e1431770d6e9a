"""Does the service do under a real systemd what it promises? The wheel, installed, started, hung, killed and kept.

`make systemd-test`, as root on Debian. The first time takes minutes (it makes a Debian root), then half of one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.arm.machine import CannotRun
from tests.support import eventually
from tests.system.booted import MMD, Machine, installed

from mmd.supervisor.journal import STATE_CHANGED

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_EXPOSURE = 1.0
SUPERVISOR_MIB = 40
CONFIGURATION = """
[training]
min_new_samples = 1
[conditions.user_idle]
required = false
[daemon]
cooldown_seconds = 0
"""
QUICK = "[Service]\nWatchdogSec=3s\nRestartSec=1s\n"
"""The same watchdog and restart as the shipped unit's, in less time."""
PROMISED = (
    "Seccomp:\t2",
    "NoNewPrivs:\t1",
    "CapEff:\t0000000000000000",
    "CapBnd:\t0000000000000000",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the product installed as systemd/README.md says, and not started yet."""
    try:
        with (
            installed(REPOSITORY, tmp_path_factory.mktemp("wheel")) as (root, incoming),
            Machine(root, incoming) as made,
        ):
            made.install(CONFIGURATION)
            yield made
    except CannotRun as reason:
        pytest.skip(f"the service cannot be tried under a real systemd here: {reason}")


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The machine with the service running."""
    machine.check("systemctl", "start", "mmd")
    return machine


def is_running_again(machine: Machine, before: str) -> bool:
    return machine.unit("MainPID") not in ("0", before) and machine.unit("ActiveState") == "active"


def signal(machine: Machine, name: str) -> None:
    """Send a signal to the supervisor alone."""
    machine.check("systemctl", "kill", "--kill-whom=main", f"--signal={name}", "mmd")


def test_the_unit_verifies_without_a_word(machine: Machine) -> None:
    ran = machine.run("systemd-analyze", "verify", "/etc/systemd/system/mmd.service")
    assert (ran.code, ran.out + ran.err) == (0, "")


def test_the_unit_is_hardly_exposed(machine: Machine) -> None:
    ran = machine.run("systemd-analyze", "security", "--no-pager", "mmd.service")
    found = re.search(r"Overall exposure level for mmd\.service: ([\d.]+)", ran.out)
    assert found is not None, ran.err
    assert float(found.group(1)) <= MOST_EXPOSURE


def test_the_service_is_ready_when_it_has_started(service: Machine) -> None:
    assert service.unit("ActiveState") == "active"
    assert service.unit("StatusText").startswith("state=")
    found = service.status()
    assert str(found["daemon"]["pid"]) == service.unit("MainPID")
    assert found["daemon"]["rss_bytes"] <= SUPERVISOR_MIB * 1024 * 1024


def test_the_doctor_finds_no_problem(service: Machine) -> None:
    found = json.loads(service.mmd("doctor", "--json"))
    assert found["healthy"]
    assert "service_not_installed" not in [finding["code"] for finding in found["findings"]]


def test_the_sandbox_lets_the_daemon_feel_the_board(service: Machine) -> None:
    """Pressure only where this kernel tells it."""
    wanted = {"memory_available", "disk_free", "cpu_used_by_others"}
    if service.run("cat", "/proc/pressure/cpu").code == 0:
        wanted |= {"cpu_pressure", "memory_pressure", "io_pressure"}

    def felt() -> set[str]:
        conditions = service.status()["conditions"]
        assert [problem for each in conditions.values() for problem in each["problems"]] == []
        return {name for name, condition in conditions.items() if condition["value"] is not None}

    eventually(lambda: wanted <= felt())


def test_members_of_the_group_may_ask_and_others_may_not(service: Machine) -> None:
    ask = [MMD, "--state-dir", "/var/lib/mmd", "status", "--json"]
    member = service.check("setpriv", "--reuid=nobody", "--regid=mmd", "--clear-groups", *ask)
    assert json.loads(member)["daemon"] is not None
    stranger = service.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *ask)
    assert stranger.code != 0
    assert "You may not talk to the daemon" in stranger.err


def test_a_hung_supervisor_is_killed_by_the_watchdog_and_starts_again(service: Machine) -> None:
    service.write("/etc/systemd/system/mmd.service.d/quick.conf", QUICK)
    service.check("systemctl", "daemon-reload")
    service.check("systemctl", "restart", "mmd")
    before = service.unit("MainPID")
    signal(service, "STOP")
    eventually(lambda: is_running_again(service, before), within=30, every=0.2)
    assert "Watchdog timeout" in service.check("journalctl", "-u", "mmd", "--no-pager")
    assert service.status()["daemon"] is not None


def test_training_runs_inside_the_sandbox_and_survives_the_death_of_its_supervisor(service: Machine) -> None:
    service.ingest_the_owner()
    # Other work on the machine that runs this test must not decide when it ends.
    service.ask_for_a_round()
    eventually(lambda: (service.status()["round"] or {}).get("step", 0) >= 3, within=60, every=0.2)
    before = service.unit("MainPID")
    promises(service, before)
    total = service.status()["samples"]["total"]
    signal(service, "KILL")
    eventually(lambda: is_running_again(service, before), within=30, every=0.2)
    found = service.status()
    assert found["samples"]["total"] == total > 0
    assert found["round"]["number"] == 1
    service.ask_for_a_round()
    eventually(lambda: service.status()["verdict"] is not None, within=300, every=0.5)
    assert service.status()["verdict"]["round"] == 1


def promises(machine: Machine, supervisor: str) -> None:
    """Hold that the supervisor and its trainer are in the cage that the unit describes."""
    group = f"/sys/fs/cgroup{machine.unit('ControlGroup')}"
    members = {name: machine.check("cat", f"{group}/{name}/cgroup.procs").split() for name in ("supervisor", "trainer")}
    assert supervisor in members["supervisor"]
    assert len(members["trainer"]) == 1
    assert machine.check("cat", f"{group}/cgroup.procs") == ""
    for member in [*members["supervisor"], *members["trainer"]]:
        told = machine.check("cat", f"/proc/{member}/status")
        assert [promise for promise in PROMISED if promise not in told] == []


def test_the_journal_has_a_line_for_each_state(service: Machine) -> None:
    lines = service.check("journalctl", "-u", "mmd", "-o", "json", "--no-pager").splitlines()
    entries = [json.loads(line) for line in lines]
    own = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "mmd"]
    states = [entry for entry in own if entry["MESSAGE"].startswith("state=")]
    assert states
    assert {entry["PRIORITY"] for entry in states} == {"6"}
    assert {entry["_SYSTEMD_UNIT"] for entry in own} == {"mmd.service"}
    assert {entry["MESSAGE_ID"] for entry in states} == {STATE_CHANGED}


def test_the_journal_finds_training_by_its_fields(service: Machine) -> None:
    found = service.check("journalctl", "-o", "json", "--no-pager", "MMD_STATE=training", "MMD_ROUND=1").splitlines()
    entries = [json.loads(line) for line in found]
    assert entries
    assert all(entry["MESSAGE"].startswith("state=training") for entry in entries)


SLOW_POLL = """
[conditions.user_idle]
required = true
start_seconds = 1
stop_seconds = 1
[daemon]
poll_seconds = 60
cooldown_seconds = 0
"""
"""With a look a minute and no watchdog, whatever happens sooner was an event's doing."""
NO_WATCHDOG = "[Service]\nWatchdogSec=0\n"
SOON_SECONDS = 30.0
DESKTOP = "account required pam_permit.so\nsession required pam_systemd.so type=wayland class=user\n"
UPOWER_POLICY = """\
<busconfig><policy user="root">
<allow own="org.freedesktop.UPower"/><allow send_destination="org.freedesktop.UPower"/>
</policy></busconfig>
"""
UPOWER = ["/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "upower"]
CHARGER = "/org/freedesktop/UPower/devices/line_power_AC"
UPOWER_SAYS = {
    "DeviceAdded": ("AddAC", "ss", "line_power_AC", "a charger"),
    "PropertiesChanged": ("SetDeviceProperties", "oa{sv}", CHARGER, "1", "Online", "b", "false"),
}
"""What python-dbusmock's UPower does on a call, by the signal that it sends."""


@pytest.fixture
def listening(service: Machine) -> Iterator[Machine]:
    """The service, looking at the board only when an event tells it to."""
    drop_in = "/etc/systemd/system/mmd.service.d/events.conf"
    service.write(drop_in, NO_WATCHDOG)
    service.write("/etc/mmd/mmd.toml", SLOW_POLL)
    restart(service)
    yield service
    service.check("rm", drop_in)
    service.write("/etc/mmd/mmd.toml", CONFIGURATION)
    restart(service)


def restart(machine: Machine) -> None:
    """Start the service anew with its present files; that is none of the starts that its unit counts."""
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "reset-failed", "mmd")
    machine.check("systemctl", "restart", "mmd")


def test_the_desktop_tells_by_logind_that_its_user_is_there_or_away(listening: Machine) -> None:
    machine = listening
    machine.write("/etc/pam.d/mmd-test", DESKTOP)
    machine.check("systemd-run", "--unit=desktop", "-p", "PAMName=mmd-test", "-p", "User=nobody", "sleep", "infinity")

    def graphical() -> list[str]:
        listed = [line.split()[0] for line in machine.check("loginctl", "list-sessions", "--no-legend").splitlines()]
        kinds = {each: machine.run("loginctl", "show-session", each, "--value", "-p", "Type").out for each in listed}
        return [each for each, kind in kinds.items() if kind.strip() == "wayland"]

    eventually(lambda: len(graphical()) == 1)
    (session,) = graphical()
    logind = ["busctl", "-j", "call", "org.freedesktop.login1"]
    manager = ["/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
    path = json.loads(machine.check(*logind, *manager, "GetSession", "s", session))["data"][0]

    def hint(*, is_idle: bool) -> None:
        machine.check(*logind, path, "org.freedesktop.login1.Session", "SetIdleHint", "b", str(is_idle).lower())

    hint(is_idle=True)
    hint(is_idle=False)
    eventually(lambda: "user_active" in machine.last_reasons(), within=SOON_SECONDS, every=0.2)
    assert "session" in machine.status()["conditions"]["user_idle"]["detail"]
    hint(is_idle=True)
    eventually(lambda: "user_active" not in [reason["code"] for reason in machine.status()["reasons"]])
    machine.check("systemctl", "stop", "desktop")


def test_a_word_of_upower_makes_the_daemon_look_at_once(listening: Machine) -> None:
    machine = listening
    machine.write("/etc/dbus-1/system.d/mmd-test.conf", UPOWER_POLICY)
    machine.check("systemctl", "reload", "dbus")
    machine.check("systemd-run", "--unit=upower", *UPOWER)
    call = ["busctl", "call", "org.freedesktop.UPower", "/org/freedesktop/UPower", "org.freedesktop.DBus.Mock"]
    eventually(lambda: machine.run("busctl", "status", "org.freedesktop.UPower").code == 0)
    for member, *arguments in UPOWER_SAYS.values():
        machine.check("runuser", "-u", "mmd", "--", "touch", "/var/lib/mmd/held")
        assert "held_by_user" not in machine.last_reasons()
        machine.check(*call, member, *arguments)
        eventually(lambda: "held_by_user" in machine.last_reasons(), within=SOON_SECONDS, every=0.2)
        machine.mmd("resume")
        eventually(lambda: "held_by_user" not in machine.last_reasons())
    machine.check("systemctl", "stop", "upower")


def test_a_reload_reads_the_configuration_again_and_a_wrong_one_changes_nothing(service: Machine) -> None:
    def journal() -> str:
        return service.check("journalctl", "-u", "mmd", "--no-pager", "-o", "cat")

    service.check("systemctl", "reload", "mmd")
    eventually(lambda: "configuration reloaded" in journal())
    service.write("/etc/mmd/mmd.toml", CONFIGURATION + "pol_seconds = 1\n")
    service.check("systemctl", "reload", "mmd")
    eventually(lambda: "unknown key `daemon.pol_seconds`" in journal())
    assert service.unit("ActiveState") == "active"
    service.write("/etc/mmd/mmd.toml", CONFIGURATION)


def test_stopping_it_is_clean(service: Machine) -> None:
    service.check("systemctl", "stop", "mmd")
    assert service.unit("Result") == "success"
    assert service.unit("ExecMainStatus") == "0"


ASK = """
import contextlib
from pathlib import Path
from mmd.artifact.shipped import shipped_owner
from mmd.serving.client import UnixConnection
picture = next(iter(sorted(shipped_owner().rglob("*.png"))))
with contextlib.closing(UnixConnection(Path("/var/lib/mmd/serve.sock"))) as server:
    print(*server.ask("POST", "/predict", picture.read_bytes()))
"""


def test_the_first_request_starts_the_server_inside_its_sandbox(machine: Machine) -> None:
    machine.check("systemctl", "start", "mmd-serve.socket")
    assert machine.unit("ActiveState", of="mmd-serve.service") == "inactive"
    ask = ["/opt/mmd/bin/python3", "-c", ASK]
    answer = machine.check("setpriv", "--reuid=nobody", "--regid=mmd", "--clear-groups", *ask)
    code, _, text = answer.partition(" ")
    assert (code, json.loads(text)["path"]) == ("200", "-")
    assert machine.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *ask).code != 0
    assert machine.unit("StatusText", of="mmd-serve.service").startswith("generation ")
    pid = machine.unit("MainPID", of="mmd-serve.service")
    told = machine.check("cat", f"/proc/{pid}/status").splitlines()
    assert [promise for promise in PROMISED if promise not in told] == []
    machine.check("systemctl", "stop", "mmd-serve.service")
    assert machine.unit("Result", of="mmd-serve.service") == "success"
    assert machine.check("setpriv", "--reuid=nobody", "--regid=mmd", "--clear-groups", *ask).startswith("200")


def test_the_server_is_hardly_exposed_and_verifies(machine: Machine) -> None:
    ran = machine.run("systemd-analyze", "security", "--no-pager", "mmd-serve.service")
    found = re.search(r"Overall exposure level for mmd-serve\.service: ([\d.]+)", ran.out)
    assert found is not None, ran.err
    assert float(found.group(1)) <= MOST_EXPOSURE
    for unit in ("mmd-serve.service", "mmd-serve.socket"):
        ran = machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert (ran.code, ran.out + ran.err) == (0, "")
