"""Does the daemon hear from logind who went away, and does a bus that fails cost nothing?"""

import selectors
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.system_bus import DAEMON, FakeLogind, private_bus

from mmd.conditions.events import Unavailable
from mmd.conditions.events.system_bus import SystemBus
from mmd.conditions.reading import system_clock
from mmd.conditions.user_idle import Session

needs_bus = pytest.mark.skipif(DAEMON is None, reason="there is no dbus-daemon here (Debian: dbus-daemon)")
SECOND = 1_000_000
AWAY = {"IdleHint": True, "IdleSinceHintMonotonic": 700 * SECOND}
HERE = {"IdleHint": False, "IdleSinceHintMonotonic": 700 * SECOND}


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with private_bus(tmp_path) as found:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={found}")
        yield found


@pytest.fixture
def logind(address: Path) -> Iterator[FakeLogind]:
    fake = FakeLogind(address)
    yield fake
    fake.close()


@pytest.fixture
def bus(logind: FakeLogind) -> Iterator[SystemBus]:
    source = SystemBus()
    yield source
    source.close()


def wait(bus: SystemBus) -> bool:
    """Wait until the bus wakes the loop, and take what came."""
    with selectors.DefaultSelector() as selector:
        selector.register(bus.fileno(), selectors.EVENT_READ)
        assert selector.select(20), "nothing came"
    return bus.take()


@needs_bus
def test_a_user_who_goes_away_and_comes_back_is_told_at_once(bus: SystemBus, logind: FakeLogind) -> None:
    logind.say("c1", **HERE)
    assert wait(bus) is True
    assert list(bus.sessions) == [Session("the wayland session of ada", idle_since=None)]
    logind.say("c1", **AWAY)
    assert wait(bus) is True
    ((name, since),) = [(session.name, session.idle_since) for session in bus.sessions]
    assert name == "the wayland session of ada"
    assert since == pytest.approx(700.0 + system_clock().asleep, abs=0.1)
    logind.say("c1")
    assert wait(bus) is True
    assert not bus.sessions


@needs_bus
def test_sessions_that_are_there_already_are_asked_for(logind: FakeLogind) -> None:
    logind.say("c1", **AWAY)
    bus = SystemBus()
    assert [session.idle_since is not None for session in bus.sessions] == [True]
    bus.close()


@needs_bus
@pytest.mark.parametrize(
    "said",
    [
        {"Type": "tty"},
        {"Class": "greeter"},
        {"State": "closing"},
        {"IdleHint": False, "IdleSinceHintMonotonic": 0},
    ],
)
def test_sessions_that_tell_nothing_of_a_desktops_user_are_left_out(
    bus: SystemBus, logind: FakeLogind, said: dict[str, Any]
) -> None:
    logind.say("c1", **{**HERE, **said})
    assert wait(bus) is True
    assert not bus.sessions


CHARGER, BATTERY = (f"/org/freedesktop/UPower/devices/{name}" for name in ("line_power_AC", "battery_BAT0"))


def properties(path: str, interface: str, **changed: tuple[str, object]) -> tuple[Any, ...]:
    body = (interface, changed, [])
    return path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body


UPOWER_SIGNALS = {
    "a charger came": ("/org/freedesktop/UPower", "org.freedesktop.UPower", "DeviceAdded", "o", (CHARGER,)),
    "a battery went": ("/org/freedesktop/UPower", "org.freedesktop.UPower", "DeviceRemoved", "o", (BATTERY,)),
    "on battery": properties("/org/freedesktop/UPower", "org.freedesktop.UPower", OnBattery=("b", True)),
    "unplugged": properties(CHARGER, "org.freedesktop.UPower.Device", Online=("b", False), UpdateTime=("t", 1)),
    "discharging": properties(
        BATTERY, "org.freedesktop.UPower.Device", State=("u", 2), Percentage=("d", 41.5), TimeToEmpty=("x", 3600)
    ),
}
"""As UPower documents them: <https://upower.freedesktop.org/docs/ref-dbus.html>."""


@needs_bus
@pytest.mark.parametrize("signal", UPOWER_SIGNALS.values(), ids=UPOWER_SIGNALS)
def test_whatever_upower_says_is_a_reason_to_look(bus: SystemBus, address: Path, signal: tuple[Any, ...]) -> None:
    upower = FakeLogind(address, "org.freedesktop.UPower")
    upower.emit(*signal)
    assert wait(bus) is True
    upower.close()


@needs_bus
def test_a_bus_without_logind_has_no_sessions(address: Path) -> None:
    bus = SystemBus()
    assert not bus.sessions
    bus.close()


@needs_bus
def test_a_logind_that_does_not_answer_is_dead_after_a_second(bus: SystemBus, logind: FakeLogind) -> None:
    logind.be_mute()
    logind.say("c1", **HERE)
    with pytest.raises(OSError, match=r"in time|timed out"):
        wait(bus)


@needs_bus
def test_the_end_of_the_bus_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_bus(tmp_path) as found:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={found}")
        bus = SystemBus()
    with pytest.raises(OSError):
        wait(bus)
    bus.close()


@pytest.mark.parametrize("address", ["unix:path=/no/such/bus", "nonsense", "tcp:host=example.org,port=1"])
def test_no_bus_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    with pytest.raises(Unavailable, match="cannot be reached"):
        SystemBus()


def test_something_that_accepts_and_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "bus"))
        silent.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")
        with pytest.raises(Unavailable, match="cannot be reached"):
            SystemBus()
