"""Does the daemon know how full the batteries are?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import battery_charge


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def test_a_board_without_battery_has_no_charge(bare: Board) -> None:
    assert battery_charge.read(bare.root).value is None


def test_one_battery_tells_its_capacity(bare: Board) -> None:
    assert battery_charge.read(bare.battery(status="Full", capacity=83).root).value == 83.0


def test_several_batteries_are_weighed_by_their_size(bare: Board) -> None:
    bare.battery("BAT0", capacity=100, energy_now=10, energy_full=10)
    bare.battery("BAT1", capacity=0, energy_now=0, energy_full=30)
    reading = battery_charge.read(bare.root)
    assert reading.value == 25.0
    assert reading.detail == "BAT0 and BAT1 together"


def test_the_lowest_of_several_counts_when_one_does_not_tell_its_size(bare: Board) -> None:
    bare.battery("BAT0", capacity=90, energy_now=9, energy_full=10).battery("BAT1", capacity=20)
    reading = battery_charge.read(bare.root)
    assert reading.value == 20.0
    assert reading.detail == "BAT1, the lowest of 2"


def test_sizes_in_different_units_are_not_added(bare: Board) -> None:
    bare.battery("BAT0", capacity=90, energy_now=9, energy_full=10)
    bare.battery("BAT1", capacity=40, charge_now=4, charge_full=10)
    assert battery_charge.read(bare.root).value == 40.0


def test_charge_stands_in_for_a_capacity_that_is_missing(bare: Board) -> None:
    assert battery_charge.read(bare.battery(charge_now=1, charge_full=4).root).value == 25.0


@pytest.mark.parametrize("lie", ["-5", "101", "full"])
def test_a_capacity_that_is_no_percentage_is_named(bare: Board, lie: str) -> None:
    reading = battery_charge.read(bare.battery("BAT0", capacity=lie).root)
    assert reading.value is None
    assert reading.problems == ("/sys/class/power_supply/BAT0/capacity holds no percentage",)


def test_a_lying_capacity_is_named_and_replaced_by_the_energy(bare: Board) -> None:
    reading = battery_charge.read(bare.battery("BAT0", capacity=250, energy_now=5, energy_full=10).root)
    assert reading.value == 50.0
    assert reading.problems == ("/sys/class/power_supply/BAT0/capacity says 250, which is no percentage",)


def test_an_energy_above_full_is_not_used(bare: Board) -> None:
    assert battery_charge.read(bare.battery(energy_now=50, energy_full=10).root).value is None
