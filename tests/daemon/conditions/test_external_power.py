"""Does the daemon know whether the board runs from the wall?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import external_power


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


@pytest.mark.parametrize("kind", ["Mains", "USB", "USB_PD", "Wireless"])
def test_each_type_of_supply_that_is_online_is_external_power(bare: Board, kind: str) -> None:
    bare.supply("source", kind, online=1).battery(status="Unknown")
    assert external_power.read(bare.root).value is True


@pytest.mark.parametrize("kind", ["Mains", "USB", "Wireless"])
def test_an_offline_supply_beside_an_undecided_battery_is_no_external_power(bare: Board, kind: str) -> None:
    bare.supply("source", kind, online=0).battery(status="Unknown")
    assert external_power.read(bare.root).value is False


def test_a_board_without_battery_and_supply_is_powered(bare: Board) -> None:
    reading = external_power.read(bare.root)
    assert reading.value is True
    assert reading.detail == "no battery: the board is powered"


def test_a_board_without_battery_is_powered_whatever_its_usb_ports_say(bare: Board) -> None:
    bare.supply("ucsi-source-psy-1", "USB", online=0)
    assert external_power.read(bare.root).value is True


def test_mains_that_say_offline_are_believed_even_without_a_battery(bare: Board) -> None:
    bare.supply("AC", "Mains", online=0)
    assert external_power.read(bare.root).value is False


def test_a_discharging_battery_wins_over_a_charger_that_claims_to_be_online(bare: Board) -> None:
    bare.supply("AC", "Mains", online=1).battery("BAT0", status="Discharging")
    reading = external_power.read(bare.root)
    assert reading.value is False
    assert reading.detail == "BAT0 is discharging although AC is online"


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_alone_tells_by_its_status(bare: Board, status: str) -> None:
    bare.battery(status=status)
    assert external_power.read(bare.root).value is True


def test_one_of_several_batteries_that_discharges_means_battery(bare: Board) -> None:
    bare.battery("BAT0", status="Full").battery("BAT1", status="Discharging")
    assert external_power.read(bare.root).detail == "BAT1 is discharging"


def test_the_battery_of_a_mouse_does_not_count(bare: Board) -> None:
    bare.battery("hidpp", status="Discharging", scope="Device")
    assert external_power.read(bare.root).value is True


def test_an_empty_battery_bay_does_not_count(bare: Board) -> None:
    bare.supply("AC", "Mains", online=1).battery("BAT1", status="Discharging", present=0)
    assert external_power.read(bare.root).value is True


@pytest.mark.parametrize("garbage", ["", "maybe", "-1", "99999999999999999999", b"\xff\xfe\x00"])
def test_garbage_in_online_is_named_and_not_believed(bare: Board, garbage: str | bytes) -> None:
    bare.supply("AC", "Mains", online=1).battery(status="Unknown")
    bare.write("sys/class/power_supply/AC/online", garbage)
    reading = external_power.read(bare.root)
    assert reading.value is False
    assert reading.problems == ("/sys/class/power_supply/AC/online does not say 0 or 1",)


def test_garbage_in_status_is_named_and_the_supply_is_believed(bare: Board) -> None:
    bare.supply("AC", "Mains", online=1).battery("BAT0", status="Exploding")
    reading = external_power.read(bare.root)
    assert reading.value is True
    assert reading.problems == ("/sys/class/power_supply/BAT0/status says 'Exploding', which is no battery status",)


def test_a_supply_whose_files_vanished_is_named(bare: Board) -> None:
    bare.supply("AC", "Mains", online=1).battery("BAT0", status="Full")
    bare.remove("sys/class/power_supply/AC/type").remove("sys/class/power_supply/BAT0/status")
    reading = external_power.read(bare.root)
    assert reading.value is False
    assert reading.problems == (
        "/sys/class/power_supply/AC/type cannot be read",
        "/sys/class/power_supply/BAT0/status cannot be read",
    )


def test_a_type_that_nobody_knows_is_named(bare: Board) -> None:
    bare.supply("reactor", "Fusion", online=1)
    assert external_power.read(bare.root).problems == (
        "/sys/class/power_supply/reactor/type says 'Fusion', which is no known type",
    )


def test_the_present_of_a_programmable_supply_may_be_two(bare: Board) -> None:
    bare.supply("usb", "USB", online=2).battery(status="Unknown")
    assert external_power.read(bare.root).value is True
