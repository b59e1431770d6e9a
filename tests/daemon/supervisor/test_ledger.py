"""Is training reckoned by the day, the run and the round, over restarts, sleep, midnight and clocks that jump?"""

import time
from pathlib import Path

import pytest

from mmd.conditions import Instant, Usage
from mmd.layout import StateDir
from mmd.limits import DutyCycle
from mmd.supervisor.accounts import Cost, round_cost, saved_usage
from mmd.supervisor.ledger import KEPT_DAYS, SAVE_SECONDS, Ledger

NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))
"""By the local clock."""
DAY = 86400.0
HALF = DutyCycle(share_percent=50, burst_minutes=10)


class Desk:
    """A ledger with clocks that a test moves."""

    def __init__(self, folder: Path, *, wall: float = NOON) -> None:
        self.state = StateDir(folder / "state")
        for number in (1, 2):
            (self.state.rounds / f"{number:04d}").mkdir(parents=True, exist_ok=True)
        self.root = folder / "board"
        self.wall, self.awake, self.asleep = wall, 1000.0, 0.0
        self.restart()

    @property
    def now(self) -> Instant:
        return Instant(self.wall, self.awake + self.asleep, self.asleep)

    def restart(self) -> None:
        self.ledger = Ledger(self.state, self.now)
        self.usage = self.turn()

    def turn(self, number: int | None = None, limits: DutyCycle = HALF) -> Usage:
        self.usage = self.ledger.turn(self.now, round_number=number, limits=limits, root=self.root)
        return self.usage

    def pass_time(self, seconds: float, number: int | None = None) -> Usage:
        """Let time go by second by second, with round `number` running."""
        for _ in range(int(seconds)):
            self.wall += 1
            self.awake += 1
            self.turn(number)
            self.ledger.save_if_due(self.now)
        return self.usage

    def stop(self) -> None:
        self.ledger.save(self.now)

    def power(self, watts: float) -> None:
        folder = self.root / "sys/class/hwmon/hwmon0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text("ina226")
        (folder / "power1_input").write_text(str(int(watts * 1e6)))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_only_the_time_in_which_a_round_runs_is_counted(desk: Desk) -> None:
    desk.pass_time(30)
    desk.pass_time(60, 1)
    desk.pass_time(30)
    assert desk.usage.minutes_trained_today == 1
    assert desk.pass_time(60, 2).minutes_trained_today == 2
    assert desk.ledger.cost_of(1) == Cost(seconds=60)


def test_a_run_is_reckoned_from_its_start_and_ends_with_an_interruption(desk: Desk) -> None:
    assert desk.pass_time(40, 1).run_seconds == 40
    assert desk.pass_time(1).run_seconds == 0
    assert desk.pass_time(5, 1).run_seconds == 5


def test_a_restart_changes_neither_the_day_nor_the_round(desk: Desk) -> None:
    desk.pass_time(90, 1)
    desk.stop()
    desk.restart()
    assert desk.usage.minutes_trained_today == 1.5
    desk.pass_time(30, 1)
    assert desk.ledger.cost_of(1).seconds == 120


def test_a_crash_loses_a_minute_at_most(desk: Desk) -> None:
    desk.pass_time(3 * SAVE_SECONDS + 20, 1)
    desk.restart()
    assert 3 <= desk.usage.minutes_trained_today <= 3 + 20 / 60
    assert saved_usage(desk.state, Instant(desk.wall, 0)).minutes_trained_today == desk.usage.minutes_trained_today


def test_at_midnight_of_the_local_clock_the_budget_is_new(desk: Desk) -> None:
    desk.pass_time(120, 1)
    desk.wall = NOON + DAY / 2 - 60
    desk.pass_time(30, 1)
    assert desk.usage.minutes_trained_today == 2.5
    assert desk.pass_time(60, 1).minutes_trained_today == pytest.approx(31 / 60)
    assert desk.ledger.cost_of(1).seconds == 210


def test_a_clock_that_jumps_away_and_back_makes_no_budget_anew(desk: Desk) -> None:
    desk.pass_time(300, 1)
    desk.wall -= 3 * DAY
    assert desk.pass_time(1, 1).minutes_trained_today == pytest.approx(1 / 60)
    desk.wall += 3 * DAY
    assert desk.pass_time(1, 1).minutes_trained_today == pytest.approx(301 / 60)


def test_a_machine_that_slept_while_it_trained_did_not_train_in_its_sleep(desk: Desk) -> None:
    desk.pass_time(10, 1)
    desk.wall += 8 * 3600
    desk.asleep += 8 * 3600
    assert desk.pass_time(10, 1).minutes_trained_today == pytest.approx(20 / 60)


def test_old_days_are_dropped(desk: Desk) -> None:
    for _ in range(2 * KEPT_DAYS):
        desk.wall += DAY
        desk.pass_time(1, 1)
    desk.stop()
    assert desk.state.ledger_file.read_text().count("watt_hours") == KEPT_DAYS


def test_energy_is_that_of_the_board_while_it_trains(desk: Desk) -> None:
    desk.power(3.6)
    desk.pass_time(100)
    desk.pass_time(1001, 1)  # from its first look at the meter on
    assert desk.usage.watt_hours_today == pytest.approx(1.0, rel=0.01)
    desk.stop()
    assert round_cost(desk.state, 1).watt_hours == pytest.approx(1.0, rel=0.01)
    desk.restart()
    assert desk.usage.watt_hours_today == pytest.approx(1.0, rel=0.01)


def test_without_a_meter_there_is_no_energy(desk: Desk) -> None:
    assert desk.pass_time(100, 1).watt_hours_today is None
    assert desk.ledger.cost_of(1).watt_hours is None


def test_a_meter_that_vanishes_costs_what_it_did_not_tell(desk: Desk) -> None:
    desk.power(3600)
    desk.power(3.6)
    desk.pass_time(101, 1)
    (desk.root / "sys/class/hwmon/hwmon0/name").unlink()
    before = desk.usage.watt_hours_today
    assert desk.pass_time(100, 1).watt_hours_today == before


def test_the_bucket_of_the_duty_cycle_survives_a_restart_and_fills_meanwhile(desk: Desk) -> None:
    desk.pass_time(600, 1)
    assert desk.usage.duty_percent == pytest.approx(50)
    desk.stop()
    desk.wall += 120  # at half of the time: a minute of ten
    desk.restart()
    assert desk.usage.duty_percent == pytest.approx(60)
    desk.stop()
    desk.wall -= DAY
    desk.restart()
    assert desk.usage.duty_percent == pytest.approx(60)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"days": 3}'])
def test_a_damaged_ledger_begins_anew(tmp_path: Path, content: bytes) -> None:
    desk = Desk(tmp_path)
    desk.state.ledger_file.write_bytes(content)
    (desk.state.rounds / "0001" / "cost.json").write_bytes(content)
    desk.restart()
    assert desk.pass_time(60, 1).minutes_trained_today == 1


def test_a_ledger_that_cannot_be_written_is_named_once_and_counts_on(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.state.ledger_file.mkdir()
    desk.pass_time(3 * SAVE_SECONDS, 1)
    assert desk.usage.minutes_trained_today == 3
    assert caplog.text.count("cannot write") == 1


def test_a_round_whose_folder_is_gone_is_no_obstacle(desk: Desk) -> None:
    desk.pass_time(5, 1)
    (desk.state.rounds / "0001").rmdir()
    desk.stop()
    assert round_cost(desk.state, 1) == Cost()
