"""Does the daemon know whether somebody uses the board?"""

import time
from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Instant, user_idle
from mmd.conditions.user_idle import LISTED_SECONDS, Session


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def at(monotonic: float = 1000.0) -> Instant:
    return Instant(wall=time.time(), monotonic=monotonic)


def test_a_board_without_terminals_and_input_devices_is_headless(bare: Board) -> None:
    reading, _ = user_idle.read(bare.root, at(), None)
    assert reading.value is None
    assert reading.detail == "headless: no session, terminal or input device"


@pytest.mark.parametrize("name", ["tty1", "pts/3"])
def test_the_access_time_of_a_terminal_tells_when_somebody_typed(bare: Board, name: str) -> None:
    reading, _ = user_idle.read(bare.terminal(name, idle_seconds=40).root, at(), None)
    assert reading.value == pytest.approx(40, abs=2)
    assert reading.detail == f"/dev/{name}"


def test_the_newest_of_all_terminals_counts(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=900).terminal("pts/0", idle_seconds=7).terminal("pts/1", idle_seconds=800)
    assert user_idle.read(bare.root, at(), None)[0].detail == "/dev/pts/0"


def test_a_serial_console_counts_and_other_serial_ports_do_not(bare: Board) -> None:
    bare.terminal("ttyAMA0", idle_seconds=50).terminal("ttyUSB0", idle_seconds=1).terminal("tty", idle_seconds=1)
    bare.write("sys/class/tty/console/active", "ttyAMA0")
    assert user_idle.read(bare.root, at(), None)[0].detail == "/dev/ttyAMA0"


def test_a_terminal_used_in_the_future_is_named_and_ignored(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=-4000).terminal("tty2", idle_seconds=100)
    reading, _ = user_idle.read(bare.root, at(), None)
    assert reading.value == pytest.approx(100, abs=2)
    assert reading.problems == ("/dev/tty1 was used in the future; did the clock jump?",)


def test_a_moment_in_the_future_is_now(bare: Board) -> None:
    assert user_idle.read(bare.terminal("tty1", idle_seconds=-10).root, at(), None)[0].value == 0.0


@pytest.mark.parametrize("line", ["i8042", "USB Keyboard", "gpio-keys", "goodix_touch", "PS/2 Mouse"])
def test_an_input_interrupt_that_moves_is_activity(bare: Board, line: str) -> None:
    bare.terminal("tty1", idle_seconds=5000)
    _, activity = user_idle.read(bare.interrupts({line: 10, "eth0": 7}).root, at(100), None)
    reading, activity = user_idle.read(bare.interrupts({line: 11, "eth0": 7}).root, at(101), activity)
    assert reading.value == 0.0
    reading, _ = user_idle.read(bare.root, at(161), activity)
    assert reading.value == 60.0
    assert reading.detail == "input devices"


def test_other_interrupts_are_no_activity(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=5000)
    _, activity = user_idle.read(bare.interrupts({"i8042": 10, "eth0": 7}).root, at(100), None)
    reading, _ = user_idle.read(bare.interrupts({"i8042": 10, "eth0": 9999}).root, at(101), activity)
    assert reading.detail == "/dev/tty1"


def test_the_first_look_trusts_the_terminals_and_not_the_unknown_past_of_interrupts(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=5000).interrupts({"i8042": 10})
    assert user_idle.read(bare.root, at(), None)[0].value == pytest.approx(5000, abs=2)


def test_without_terminals_idle_time_starts_with_the_first_look(bare: Board) -> None:
    reading, activity = user_idle.read(bare.interrupts({"i8042": 10}).root, at(100), None)
    assert reading.value == 0.0
    assert user_idle.read(bare.root, at(400), activity)[0].value == 300.0


def test_the_counts_of_the_same_lines_are_read_from_the_cheaper_file(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=5000).write("sys/class/tty/tty0/active", "tty1").interrupts({"i8042": 10})
    bare.write("proc/stat", "cpu 1 2 3 4\nintr 99 0 10 89\nctxt 5")
    _, activity = user_idle.read(bare.root, at(100), None)
    reading, activity = user_idle.read(bare.remove("proc/interrupts").root, at(101), activity)
    assert reading.detail == "/dev/tty1", "the same count"
    bare.write("proc/stat", "cpu 1 2 3 4\nintr 99 0 11 89\nctxt 5")
    reading, activity = user_idle.read(bare.root, at(102), activity)
    assert (reading.value, reading.detail) == (0.0, "input devices")


@pytest.mark.parametrize("stat", ["", "intr", "cpu 1\nintr 99 0", "cpu 1\nintr 99 0 x 4\n"])
def test_a_stat_without_the_lines_is_no_answer(bare: Board, stat: str) -> None:
    bare.terminal("tty1", idle_seconds=5000).write("sys/class/tty/tty0/active", "tty1").interrupts({"i8042": 0})
    _, activity = user_idle.read(bare.write("proc/stat", stat).root, at(100), None)
    assert user_idle.read(bare.root, at(101), activity)[0].detail == "/dev/tty1"


def test_garbage_in_interrupts_is_survived(bare: Board) -> None:
    bare.write("proc/interrupts", "no colon i8042\n 1: many IO-APIC i8042\n:::\n")
    _, activity = user_idle.read(bare.root, at(5), None)
    assert activity.reports == 0


def test_a_terminal_that_is_typed_on_is_seen_whatever_the_wall_clock_does(bare: Board) -> None:
    bare.terminal("pts/0", idle_seconds=5000)
    _, activity = user_idle.read(bare.root, at(100), None)
    for jump, monotonic in ((-86_400.0, 101.0), (86_400.0, 102.0)):
        now = Instant(wall=time.time() + jump, monotonic=monotonic)
        reading, activity = user_idle.read(bare.root, now, activity)
        assert reading.value == pytest.approx(4900 + monotonic, abs=2), "a jump alone is no activity, and no rest"
    bare.terminal("pts/0", idle_seconds=4000)
    reading, activity = user_idle.read(bare.root, at(103), activity)
    assert reading.value == 0.0, "the access time moved, so somebody typed"
    assert user_idle.read(bare.root, at(163), activity)[0].value == 60.0


def test_a_new_terminal_is_somebody(bare: Board) -> None:
    bare.terminal("pts/0", idle_seconds=5000)
    _, activity = user_idle.read(bare.root, at(100), None)
    reading, _ = user_idle.read(bare.terminal("pts/1", idle_seconds=1).root, at(101), activity)
    assert (reading.value, reading.detail) == (0.0, "/dev/pts/1")


def test_consoles_in_the_background_are_looked_at_now_and_then_only(bare: Board) -> None:
    bare.write("sys/class/tty/tty0/active", "tty1")
    bare.terminal("tty1", idle_seconds=5000).terminal("tty7", idle_seconds=5000)
    _, activity = user_idle.read(bare.root, at(100), None)
    bare.terminal("tty7", idle_seconds=1)
    reading, activity = user_idle.read(bare.root, at(101), activity)
    assert reading.value != 0.0
    reading, activity = user_idle.read(bare.root, at(100 + LISTED_SECONDS), activity)
    assert reading.value == 0.0
    bare.terminal("tty1", idle_seconds=1)
    assert user_idle.read(bare.root, at(130), activity)[0].detail == "/dev/tty1"


def test_a_session_whose_user_went_away_is_idle_since_then(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=5000)
    away = Session("the wayland session of ada", idle_since=400.0)
    reading, _ = user_idle.read(bare.root, at(1000), None, [away])
    assert (reading.value, reading.detail) == (600.0, "the wayland session of ada")


def test_a_session_in_use_is_activity_whatever_the_terminals_say(bare: Board) -> None:
    bare.terminal("tty1", idle_seconds=5000).interrupts({"i8042": 10})
    in_use, away = Session("the x11 session of ada", idle_since=None), Session("the other", idle_since=1.0)
    reading, _ = user_idle.read(bare.root, at(1000), None, [away, in_use])
    assert (reading.value, reading.detail) == (0.0, "the x11 session of ada")


@pytest.mark.parametrize("protocol", ["01", "02"])
def test_a_report_of_a_usb_keyboard_or_mouse_is_activity(bare: Board, protocol: str) -> None:
    bare.write("sys/class/tty/tty0/active", "tty1").terminal("tty1", idle_seconds=5000)
    _, activity = user_idle.read(bare.usb("1-1.4", protocol=protocol, requests=7).root, at(100), None)
    reading, activity = user_idle.read(bare.root, at(101), activity)
    assert reading.detail == "/dev/tty1", "nothing moved"
    reading, _ = user_idle.read(bare.usb("1-1.4", protocol=protocol, requests=8).root, at(102), activity)
    assert (reading.value, reading.detail) == (0.0, "input devices")


@pytest.mark.parametrize(("interface", "protocol"), [("08", "50"), ("03", "00"), ("", "01")])
def test_other_usb_devices_are_no_activity(bare: Board, interface: str, protocol: str) -> None:
    bare.usb("1-2", interface=interface, protocol=protocol, requests=7)
    _, activity = user_idle.read(bare.root, at(100), None)
    reading, _ = user_idle.read(
        bare.usb("1-2", interface=interface, protocol=protocol, requests=900).root, at(101), activity
    )
    assert reading.value is None


@pytest.mark.parametrize(("properties", "counts"), [("2", True), ("0 3", True), ("1", False), ("junk", False)])
def test_a_usb_touch_panel_is_told_by_its_properties(bare: Board, properties: str, counts: bool) -> None:
    folder = "sys/bus/usb/devices/1-3:1.0/0003:0EEF:0005.0001/input/input7"
    bare.usb("1-3", protocol="00", requests=7).write(f"{folder}/properties", properties)
    _, activity = user_idle.read(bare.root, at(100), None)
    reading, _ = user_idle.read(bare.usb("1-3", protocol="00", requests=8).root, at(101), activity)
    assert (reading.value == 0.0) is counts


def test_a_usb_keyboard_that_is_pulled_out_is_somebody_and_no_harm(bare: Board) -> None:
    _, activity = user_idle.read(bare.usb("1-1").root, at(100), None)
    bare.remove("sys/bus/usb/devices/1-1/urbnum")
    assert user_idle.read(bare.root, at(101), activity)[0].value == 0.0
