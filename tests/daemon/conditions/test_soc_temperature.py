"""Does the daemon know how hot the board is?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Instant, Reading, soc_temperature
from mmd.limits import SocTemperature


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def read(board: Board, limits: SocTemperature | None = None) -> Reading[float]:
    return soc_temperature.read(board.root, Instant(0.0, 0.0), None, limits or SocTemperature())[0]


def test_a_board_without_zones_has_no_temperature(bare: Board) -> None:
    assert read(bare).value is None


def test_the_hottest_of_all_zones_counts(bare: Board) -> None:
    bare.zone(0, 41_000, kind="cpu-thermal").zone(1, 71_500, kind="gpu-thermal").zone(10, 3_000, kind="battery")
    reading = read(bare)
    assert reading.value == 71.5
    assert reading.detail == "gpu-thermal"


@pytest.mark.parametrize("absurd", [2_147_483_647, -273_000, 151_000])
def test_a_temperature_that_no_board_has_is_ignored_and_named(bare: Board, absurd: int) -> None:
    reading = read(bare.zone(0, absurd).zone(1, 50_000))
    assert reading.value == 50.0
    assert len(reading.problems) == 1
    assert "/sys/class/thermal/thermal_zone0/temp" in reading.problems[0]


def test_a_temperature_in_whole_degrees_is_ignored_and_named(bare: Board) -> None:
    reading = read(bare.zone(0, 62))
    assert reading.value is None
    assert reading.problems == (
        "/sys/class/thermal/thermal_zone0/temp says 62, which is not in thousandths of a degree",
    )


def test_a_zone_that_cannot_be_read_is_named(bare: Board) -> None:
    bare.zone(0, 50_000).zone(1, "N/A").zone(2, 1).remove("sys/class/thermal/thermal_zone2/temp")
    reading = read(bare)
    assert reading.value == 50.0
    assert len(reading.problems) == 2


def test_frost_is_believed(bare: Board) -> None:
    assert read(bare.zone(0, -12_000)).value == -12.0


def test_a_zone_is_held_to_its_own_trip_point_where_that_is_lower(bare: Board) -> None:
    bare.zone(0, 62_000).trips(0, passive=70_000, critical=110_000)
    reading = read(bare)
    assert reading.ceiling == 65.0
    assert reading.detail == "cpu-thermal, whose passive trip point is at 70 °C"


def test_the_zone_that_is_nearest_to_its_limit_counts_and_not_the_hottest(bare: Board) -> None:
    bare.zone(0, 66_000, kind="cpu").zone(1, 52_000, kind="pmic").trips(1, hot=60_000)
    reading = read(bare)
    assert (reading.value, reading.ceiling) == (52.0, 55.0)


@pytest.mark.parametrize("trips", [{"critical": 110_000}, {"active": 50_000}, {"passive": 90_000}])
def test_trip_points_above_the_level_and_those_of_fans_are_no_limit(bare: Board, trips: dict[str, int]) -> None:
    assert read(bare.zone(0, 60_000).trips(0, **trips)).ceiling is None


@pytest.mark.parametrize("absurd", [0, -274_000, 20_800, 2_147_483_647, "none", "70"])
def test_trip_points_that_cannot_be_meant_are_ignored(bare: Board, absurd: object) -> None:
    reading = read(bare.zone(0, 60_000).trips(0, critical=absurd))
    assert (reading.value, reading.ceiling, reading.problems) == (60.0, None, ())


def test_trip_points_are_not_read_at_every_look_but_a_new_zone_is_seen_at_once(bare: Board) -> None:
    bare.zone(0, 60_000)
    _, zones = soc_temperature.read(bare.root, Instant(0.0, 0.0), None, SocTemperature())
    bare.trips(0, passive=70_000)
    reading, zones = soc_temperature.read(bare.root, Instant(1.0, 1.0), zones, SocTemperature())
    assert reading.ceiling is None
    later = 1.0 + soc_temperature.TRIPS_SECONDS
    reading, zones = soc_temperature.read(bare.root, Instant(later, later), zones, SocTemperature())
    assert reading.ceiling == 65.0
    reading, _ = soc_temperature.read(bare.zone(1, 74_000).root, Instant(later, later), zones, SocTemperature())
    assert reading.value == 74.0
