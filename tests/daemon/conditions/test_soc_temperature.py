"""Does the daemon know how hot the board is?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import soc_temperature


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def test_a_board_without_zones_has_no_temperature(bare: Board) -> None:
    assert soc_temperature.read(bare.root).value is None


def test_the_hottest_of_all_zones_counts(bare: Board) -> None:
    bare.zone(0, 41_000, kind="cpu-thermal").zone(1, 71_500, kind="gpu-thermal").zone(10, 3_000, kind="battery")
    reading = soc_temperature.read(bare.root)
    assert reading.value == 71.5
    assert reading.detail == "gpu-thermal"


@pytest.mark.parametrize("absurd", [2_147_483_647, -273_000, 151_000])
def test_a_temperature_that_no_board_has_is_ignored_and_named(bare: Board, absurd: int) -> None:
    reading = soc_temperature.read(bare.zone(0, absurd).zone(1, 50_000).root)
    assert reading.value == 50.0
    assert len(reading.problems) == 1
    assert "/sys/class/thermal/thermal_zone0/temp" in reading.problems[0]


def test_a_temperature_in_whole_degrees_is_ignored_and_named(bare: Board) -> None:
    reading = soc_temperature.read(bare.zone(0, 62).root)
    assert reading.value is None
    assert reading.problems == (
        "/sys/class/thermal/thermal_zone0/temp says 62, which is not in thousandths of a degree",
    )


def test_a_zone_that_cannot_be_read_is_named(bare: Board) -> None:
    bare.zone(0, 50_000).zone(1, "N/A").zone(2, 1).remove("sys/class/thermal/thermal_zone2/temp")
    reading = soc_temperature.read(bare.root)
    assert reading.value == 50.0
    assert len(reading.problems) == 2


def test_frost_is_believed(bare: Board) -> None:
    assert soc_temperature.read(bare.zone(0, -12_000).root).value == -12.0
