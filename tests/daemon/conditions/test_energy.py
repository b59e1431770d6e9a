"""Is the board's best power meter found, and is an amount of energy reckoned rightly from it?"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.board import Board

from mmd.conditions.energy import EnergyCounter, EnergyReading, read_energy, watt_hours_between


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    return Board(tmp_path / "root", is_bare=True)


def test_a_board_without_meter_tells_nothing(bare: Board) -> None:
    assert read_energy(bare.root) is None


def test_the_rail_that_feeds_all_others_is_the_board(bare: Board) -> None:
    bare.rail(0, 1, label="VDD_CPU", milliamperes=400, millivolts=5000)
    bare.rail(0, 2, label="VDD_IN", milliamperes=1000, millivolts=5000)
    reading = read_energy(bare.root)
    assert reading is not None
    assert (reading.meter, reading.power_watts) == ("the rail VDD_IN", pytest.approx(5.0))


def test_rails_without_a_known_input_are_summed(bare: Board) -> None:
    bare.rail(0, 1, label="3V3", milliamperes=100, millivolts=3300)
    bare.write("sys/class/hwmon/hwmon1/name", "ina226").write("sys/class/hwmon/hwmon1/power1_input", "1500000")
    reading = read_energy(bare.root)
    assert reading is not None
    assert (reading.meter, reading.power_watts) == ("2 supply rails", pytest.approx(1.83))


def test_other_chips_of_hwmon_are_not_the_board(bare: Board) -> None:
    bare.write("sys/class/hwmon/hwmon0/name", "amdgpu").write("sys/class/hwmon/hwmon0/power1_input", "90000000")
    assert read_energy(bare.root) is None


def test_the_counters_of_all_packages_count_and_those_of_their_parts_do_not(bare: Board) -> None:
    bare.energy_counter(0, "package-0", microjoules=5_000_000).energy_counter(1, "package-1", microjoules=7_000_000)
    bare.write("sys/class/powercap/intel-rapl:0:0/energy_uj", "1")
    reading = read_energy(bare.root)
    assert reading is not None
    assert [(counter.name, counter.joules) for counter in reading.counters] == [("package-0", 5.0), ("package-1", 7.0)]
    platform = read_energy(bare.energy_counter(2, "psys", microjoules=20_000_000).root)
    assert platform is not None
    assert [counter.name for counter in platform.counters] == ["psys"]


@pytest.mark.parametrize("absurd", ["", "lots", "-5", str(2**38 + 1)])
def test_a_counter_that_cannot_be_is_left_out(bare: Board, absurd: str) -> None:
    assert read_energy(bare.energy_counter(0, "package-0", microjoules=absurd).root) is None


@pytest.mark.parametrize(
    "files", [{"power_now": 4_000_000}, {"power_now": -4_000_000}, {"current_now": -800_000, "voltage_now": 5_000_000}]
)
def test_a_battery_that_discharges_tells_what_the_board_uses(bare: Board, files: dict[str, int]) -> None:
    reading = read_energy(bare.battery(status="Discharging", **files).root)
    assert reading is not None
    assert (reading.meter, reading.power_watts) == ("the battery", pytest.approx(4.0))


@pytest.mark.parametrize("status", ["Charging", "Full", "Unknown", ""])
def test_a_battery_that_does_not_discharge_says_nothing_about_the_board(bare: Board, status: str) -> None:
    assert read_energy(bare.battery(status=status, power_now=4_000_000).root) is None


@pytest.mark.parametrize("said", ["", "lots", 10**13])
def test_a_battery_that_cannot_be_believed_is_left_out(bare: Board, said: object) -> None:
    assert read_energy(bare.battery(status="Discharging", power_now=said).root) is None


def test_power_gives_energy_by_its_mean(bare: Board) -> None:
    assert watt_hours_between(EnergyReading("m", 4.0), EnergyReading("m", 6.0), 3600.0) == pytest.approx(5.0)


def counters(joules: float, *, wraps_at: float = 262_143.0, name: str = "package-0") -> EnergyReading:
    return EnergyReading("rapl", counters=(EnergyCounter(name, joules, wraps_at),))


@given(st.floats(0, 262_143), st.floats(0, 1000))
def test_a_counter_that_begins_again_is_reckoned_on(start: float, used: float) -> None:
    found = watt_hours_between(counters(start), counters((start + used) % 262_143.0), 60.0)
    assert found == pytest.approx(used / 3600, abs=1e-9)


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        (None, EnergyReading("m", 1.0), 1.0),
        (EnergyReading("m", 1.0), None, 1.0),
        (EnergyReading("m", 1.0), EnergyReading("other", 1.0), 1.0),
        (EnergyReading("m", 1.0), EnergyReading("m", 1.0), 0.0),
        (EnergyReading("m", 1.0), EnergyReading("m", 1.0), -5.0),
        (counters(5.0), counters(6.0, name="package-1"), 1.0),
        (counters(5.0), counters(200_000.0), 1.0),
        (counters(5.0), counters(4.0), 1.0),
    ],
)
def test_what_cannot_be_reckoned_is_no_amount(
    before: EnergyReading | None, after: EnergyReading | None, seconds: float
) -> None:
    assert watt_hours_between(before, after, seconds) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=40), st.integers().map(lambda number: str(number).encode())))
def test_no_meter_that_talks_nonsense_stops_the_daemon(tmp_path: Path, garbage: bytes) -> None:
    board = Board(tmp_path / "root", is_bare=True)
    board.rail(0, 1, label="VDD_IN", milliamperes=1, millivolts=1).write("sys/class/hwmon/hwmon0/curr1_input", garbage)
    board.energy_counter(0, "package-0", microjoules=1).write("sys/class/powercap/intel-rapl:0/energy_uj", garbage)
    board.battery(status="Discharging", power_now=1).write("sys/class/power_supply/battery/power_now", garbage)
    reading = read_energy(board.root)
    used = watt_hours_between(reading, reading, 1.0)
    assert used is None or used >= 0
