"""Does the daemon know how hot the batteries are?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import battery_temperature


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def test_the_hottest_battery_counts(bare: Board) -> None:
    bare.battery("BAT0", temp=251).battery("BAT1", temp=402).supply("usb", "USB", online=1)
    reading = battery_temperature.read(bare.root)
    assert (reading.value, reading.detail, reading.problems) == (40.2, "BAT1", ())


@pytest.mark.parametrize("files", [{}, {"status": "Charging"}])
def test_a_battery_that_does_not_tell_is_no_problem(bare: Board, files: dict[str, str]) -> None:
    reading = battery_temperature.read(bare.battery(**files).root)
    assert (reading.value, reading.problems) == (None, ())


@pytest.mark.parametrize(("said", "word"), [("32767", "3277 °C"), ("-9999", "-1000 °C"), ("warm", "holds no number")])
def test_what_no_battery_survives_is_ignored_and_named(bare: Board, said: str, word: str) -> None:
    reading = battery_temperature.read(bare.battery("BAT0", temp=said).battery("BAT1", temp=300).root)
    assert reading.value == 30.0
    assert "/sys/class/power_supply/BAT0/temp" in reading.problems[0]
    assert word in reading.problems[0]
