"""Does the policy say no for the right reasons, and yes otherwise?"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmd.conditions import Conditions, Instant, Reading
from mmd.config import Config, load_config
from mmd.limits import (
    AllowedHours,
    ConditionsConfig,
    DutyCycle,
    ExclusiveProcesses,
    RunLength,
    TrainingEnergyToday,
    TrainingTimeToday,
    dwell_seconds,
)
from mmd.policy import Code, Facts, Mode, Reason, Tracker, decide, look, overridden, remember
from mmd.policy.decide import LONGEST_COOLDOWN_SECONDS, cooldown_seconds, has_work
from mmd.policy.levels import LEVELS, standing
from mmd.policy.reasons import REASONS, Kind
from mmd.policy.standing import number

GOOD: dict[str, Any] = {
    "external_power": True,
    "battery_charge": 90.0,
    "battery_temperature": 25.0,
    "user_idle": 3600.0,
    "soc_temperature": 40.0,
    "memory_available": 2000.0,
    "disk_free": 5000.0,
    "cpu_used_by_others": 3.0,
    "cpu_pressure": 1.0,
    "memory_pressure": 0.0,
    "io_pressure": 2.0,
    "exclusive_processes": 0.0,
    "allowed_hours": True,
    "run_length": 0.0,
    "duty_cycle": 100.0,
    "training_time_today": 0.0,
    "training_energy_today": 0.0,
}
"""Every start level is met."""
BETWEEN: dict[str, Any] = {
    "battery_charge": 40.0,
    "battery_temperature": 40.0,
    "user_idle": 100.0,
    "soc_temperature": 70.0,
    "memory_available": 200.0,
    "disk_free": 200.0,
    "cpu_used_by_others": 45.0,
    "cpu_pressure": 60.0,
    "memory_pressure": 10.0,
    "io_pressure": 50.0,
    "duty_cycle": 30.0,
}
"""Not good enough to start, good enough to go on."""
BAD: dict[str, Any] = {
    "external_power": False,
    "battery_charge": 10.0,
    "battery_temperature": 50.0,
    "user_idle": 2.0,
    "soc_temperature": 90.0,
    "memory_available": 20.0,
    "disk_free": 20.0,
    "cpu_used_by_others": 90.0,
    "cpu_pressure": 95.0,
    "memory_pressure": 40.0,
    "io_pressure": 90.0,
    "exclusive_processes": 1.0,
    "allowed_hours": False,
    "run_length": 45.0,
    "duty_cycle": 0.0,
    "training_time_today": 130.0,
    "training_energy_today": 3.0,
}
"""Beyond every stop level."""
TOLD: dict[str, tuple[str, str, str]] = {
    "external_power": ("The board runs on battery: as told.", "on", "off"),
    "battery_charge": ("The battery holds 10 % (as told).", ">= 50 %", "< 30 %"),
    "battery_temperature": ("The battery is at 50 °C (as told).", "<= 38 °C", "> 43 °C"),
    "user_idle": ("The board was used 2 s ago (as told).", ">= 300 s", "< 30 s"),
    "soc_temperature": ("The board is at 90 °C (as told).", "<= 60 °C", "> 75 °C"),
    "memory_available": ("20 MiB of memory are available (as told).", ">= 300 MiB", "< 150 MiB"),
    "disk_free": ("20 MiB are free on as told.", ">= 300 MiB", "< 100 MiB"),
    "cpu_used_by_others": ("Other programs use 90 % of the processors.", "<= 30 %", "> 60 %"),
    "cpu_pressure": ("Programs waited for a processor in 95 % of the last 10 s.", "<= 40 %", "> 80 %"),
    "memory_pressure": ("Programs waited for memory in 40 % of the last 10 s.", "<= 5 %", "> 20 %"),
    "io_pressure": ("Programs waited for a disk in 90 % of the last 10 s.", "<= 30 %", "> 70 %"),
    "exclusive_processes": ("A program wants the board for itself: as told.", "0", "0"),
    "allowed_hours": ("Training may not run at this hour: as told.", "22:00-07:00", "22:00-07:00"),
    "run_length": ("Training has run for 45 min without a rest.", "< 30 min", ">= 30 min"),
    "duty_cycle": ("Training used its 50 % share of the time: 0 % of the burst are left.", ">= 50 %", "<= 0 %"),
    "training_time_today": ("Training has run for 130 min today, of 120 min that it may.", "< 120 min", ">= 120 min"),
    "training_energy_today": ("Training has used 3 Wh today, of 2 Wh that it may.", "< 2 Wh", ">= 2 Wh"),
}
"""What is said of those, with the levels to start and to stop."""
READY = Facts(trainable=50, new=50)
CONFIG = Config(
    conditions=ConditionsConfig(
        exclusive_processes=ExclusiveProcesses(names=("game",)),
        allowed_hours=AllowedHours(windows=("22:00-07:00",)),
        run_length=RunLength(stop_minutes=30.0, rest_minutes=10.0),
        duty_cycle=DutyCycle(share_percent=50.0),
        training_time_today=TrainingTimeToday(stop_minutes=120.0),
        training_energy_today=TrainingEnergyToday(stop_watt_hours=2.0),
    )
)
"""The defaults, and every limit that the defaults leave out."""


def conditions(monotonic: float = 0.0, **values: Any) -> Conditions:
    readings = {name: Reading(value, "as told") for name, value in {**GOOD, **values}.items()}
    return Conditions(at=Instant(wall=1e9 + monotonic, monotonic=monotonic), **readings)


class Watcher:
    """Looks at one board after the other, as the daemon does."""

    def __init__(self, facts: Facts = READY, *, mode: Mode = Mode.AUTO) -> None:
        self.facts = facts
        self.mode = mode
        self.tracker = Tracker()

    def see(self, monotonic: float, *, is_running: bool = False, **values: Any) -> list[Reason]:
        seen = conditions(monotonic, **values)
        self.tracker = look(self.tracker, seen, CONFIG.conditions)
        facts = msgspec.structs.replace(self.facts, is_running=is_running)
        reasons = decide(seen, facts, CONFIG, tracker=self.tracker, mode=self.mode, now=seen.at)
        self.tracker = remember(self.tracker, reasons, seen.at)
        return reasons


def codes(reasons: list[Reason]) -> list[Code]:
    return [reason.code for reason in reasons]


def test_nothing_is_in_the_way_on_a_good_board() -> None:
    assert Watcher().see(0) == []


@pytest.mark.parametrize("name", GOOD)
def test_a_condition_that_the_board_cannot_tell_is_no_obstacle(name: str) -> None:
    unknown: dict[str, Any] = {name: None}
    assert Watcher().see(0, **unknown) == []


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_each_condition_beyond_its_stop_level_suspends_with_its_own_code(name: str, value: Any) -> None:
    assert codes(Watcher().see(0, is_running=True, **{name: value})) == [LEVELS[name][0]]


@pytest.mark.parametrize("name", LEVELS)
def test_each_condition_says_what_it_reads_and_what_its_levels_are(name: str) -> None:
    stands = standing(name, conditions(**BAD), CONFIG.conditions)
    assert (stands.message, stands.start, stands.stop) == TOLD[name]


@pytest.mark.parametrize(
    ("windows", "told"), [((), "no limit"), (("22:00-07:00",), "22:00-07:00"), (("0-6", "12-13"), "2 windows")]
)
def test_the_hours_that_are_allowed_are_told_where_they_are_few(windows: tuple[str, ...], told: str) -> None:
    limits = ConditionsConfig(allowed_hours=AllowedHours(windows=windows))
    assert standing("allowed_hours", conditions(), limits).start == told


@pytest.mark.parametrize(("value", "told"), [(7.25, "7.2"), (7.0, "7"), (123.4, "123"), (None, "unknown")])
def test_a_reading_is_told_as_finely_as_anyone_would_read_it(value: float | None, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_each_condition_beyond_its_stop_level_keeps_a_round_from_starting(name: str, value: Any) -> None:
    assert codes(Watcher().see(0, **{name: value})) == [LEVELS[name][0]]


@pytest.mark.parametrize(("name", "value"), BETWEEN.items())
def test_between_the_levels_what_runs_goes_on(name: str, value: Any) -> None:
    assert Watcher().see(0, is_running=True, **{name: value}) == []


@pytest.mark.parametrize(("name", "value"), BETWEEN.items())
def test_between_the_levels_nothing_starts(name: str, value: Any) -> None:
    assert codes(Watcher().see(0, **{name: value})) == [LEVELS[name][0]]


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_a_condition_counts_again_only_after_its_dwell(name: str, value: Any) -> None:
    dwell = dwell_seconds(getattr(CONFIG.conditions, name))
    watcher = Watcher()
    watcher.see(0, **{name: value})
    assert watcher.see(10, **{name: value}) != []
    if dwell:
        assert codes(watcher.see(11)) == [LEVELS[name][0]]
        assert codes(watcher.see(11 + dwell - 0.1)) == [LEVELS[name][0]]
    assert watcher.see(11 + dwell) == []


def test_the_dwell_begins_anew_after_every_break() -> None:
    watcher = Watcher()
    watcher.see(0, external_power=False)
    watcher.see(1)
    watcher.see(5, external_power=False)
    assert watcher.see(8) != []
    assert watcher.see(12.9) != []
    assert watcher.see(13) == []


def test_what_always_held_needs_no_dwell() -> None:
    assert Watcher().see(0) == []


def test_after_the_machine_slept_every_dwell_begins_anew() -> None:
    tracker, found = Tracker(), []
    for monotonic, asleep in ((0.0, 5.0), (10.0, 5.2), (3600.0, 3500.0), (3631.0, 3500.0), (4201.0, 3500.0)):
        at = Instant(wall=1e9, monotonic=monotonic, asleep=asleep)
        seen = msgspec.structs.replace(conditions(monotonic), at=at)
        tracker = look(tracker, seen, CONFIG.conditions)
        found.append(codes(decide(seen, READY, CONFIG, tracker=tracker, mode=Mode.AUTO, now=at)))
    assert found[:2] == [[], []]
    assert {Code.ON_BATTERY, Code.SOC_HOT, Code.MEMORY_LOW, Code.RUN_TOO_LONG} <= set(found[2])
    assert Code.ON_BATTERY not in found[3]
    assert found[4] == []


def test_what_runs_when_the_machine_wakes_goes_on() -> None:
    watcher = Watcher()
    watcher.see(0, is_running=True)
    seen = conditions(1)
    seen = msgspec.structs.replace(seen, at=msgspec.structs.replace(seen.at, asleep=900.0))
    tracker = look(watcher.tracker, seen, CONFIG.conditions)
    facts = msgspec.structs.replace(READY, is_running=True)
    assert decide(seen, facts, CONFIG, tracker=tracker, mode=Mode.AUTO, now=seen.at) == []


def test_a_reason_keeps_the_time_when_it_began() -> None:
    watcher = Watcher()
    watcher.see(0)
    watcher.see(10, external_power=False)
    (reason,) = watcher.see(50, external_power=False)
    assert reason.since == pytest.approx(1e9 + 10)


def test_a_clock_that_jumps_moves_since_along() -> None:
    watcher = Watcher()
    watcher.see(10, external_power=False)
    seen = msgspec.structs.replace(conditions(70, external_power=False), at=Instant(wall=5000.0, monotonic=70.0))
    (reason,) = decide(seen, READY, CONFIG, tracker=watcher.tracker, mode=Mode.AUTO, now=seen.at)
    assert reason.since == pytest.approx(4940.0)


def test_a_pending_dwell_says_how_much_is_left() -> None:
    watcher = Watcher()
    watcher.see(0, external_power=False)
    (reason,) = watcher.see(1)
    assert reason.clears_when == "external power is connected for 5 s more"


def test_being_unplugged_says_what_would_clear_it() -> None:
    (reason,) = Watcher().see(0, is_running=True, external_power=False)
    assert reason.message == "The board runs on battery: as told."
    assert reason.clears_when == "external power is connected for 5 s"


def test_a_condition_that_is_not_required_is_never_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "mmd.toml"
    file.write_text("[conditions.external_power]\nrequired = false\n[conditions.user_idle]\nrequired = false\n")
    config = load_config(file)
    seen = conditions(0, external_power=False, user_idle=0.0)
    tracker = look(Tracker(), seen, config.conditions)
    assert decide(seen, READY, config, tracker=tracker, mode=Mode.AUTO, now=seen.at) == []


WORK_FACTS: Mapping[Code, Facts] = {
    Code.HELD_BY_USER: msgspec.structs.replace(READY, held_since=5.0),
    Code.TRAINER_FAILED: msgspec.structs.replace(READY, retry_at=10.0, failure="it fell over."),
    Code.MODELS_BUSY: msgspec.structs.replace(READY, is_round_open=True, retry_at=10.0, is_put_off=True),
    Code.COOLDOWN: msgspec.structs.replace(READY, round_ended=-30.0),
    Code.SAMPLES_ARRIVING: msgspec.structs.replace(READY, samples_grew=-1.0),
    Code.TOO_FEW_SAMPLES: Facts(trainable=7, new=7),
    Code.NOTHING_NEW: Facts(trainable=50, new=9, has_trained=True),
    Code.NO_ARTIFACT_SET: Facts(has_artifact_set=False),
    Code.NO_DAEMON: msgspec.structs.replace(READY, stopped_since=0.0),
}


@pytest.mark.parametrize(("code", "facts"), WORK_FACTS.items())
def test_each_reason_beside_the_conditions_is_given(code: Code, facts: Facts) -> None:
    (reason,) = Watcher(facts).see(0)
    assert reason.code is code
    assert reason.message.endswith(".")
    assert reason.clears_when


def test_every_code_of_the_table_has_a_case() -> None:
    assert {code for code, _ in LEVELS.values()} | set(WORK_FACTS) == set(Code) == set(REASONS)


def test_an_open_round_is_finished_whatever_the_samples_are() -> None:
    facts = Facts(is_round_open=True, trainable=0, new=0, round_ended=0.0, has_trained=True, samples_grew=0.0)
    assert Watcher(facts).see(1) == []


def test_the_first_round_needs_no_new_samples_beside_the_minimum() -> None:
    assert Watcher(Facts(trainable=20, new=0)).see(0) == []


def test_cooldown_ends_by_itself() -> None:
    watcher = Watcher(msgspec.structs.replace(READY, round_ended=0.0))
    assert codes(watcher.see(59.9)) == [Code.COOLDOWN]
    assert watcher.see(60) == []


def test_rounds_that_fail_one_after_the_other_rest_longer_each_time() -> None:
    rests = [cooldown_seconds(CONFIG, failed) for failed in range(8)]
    assert rests[:3] == [60.0, 240.0, 960.0]
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_COOLDOWN_SECONDS


@pytest.mark.parametrize(
    ("failed", "words"), [(0, "1 s ago."), (1, "1 s ago, and failed."), (3, "1 s ago, and the last 3 failed.")]
)
def test_a_rest_after_failures_says_how_many_there_were(failed: int, words: str) -> None:
    (reason,) = Watcher(msgspec.structs.replace(READY, round_ended=0.0, failed_rounds=failed)).see(1)
    assert reason.message == f"The last round ended {words}"


def test_having_nothing_to_do_differs_from_having_to_wait() -> None:
    assert has_work(Watcher().see(0, external_power=False))
    assert not has_work(Watcher(WORK_FACTS[Code.TOO_FEW_SAMPLES]).see(0))


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_a_forced_round_ignores_every_condition_and_says_so(name: str, value: Any) -> None:
    watcher = Watcher(mode=Mode.FORCED)
    assert watcher.see(0, **{name: value}) == []
    seen = conditions(0, **{name: value})
    ignored = overridden(seen, READY, CONFIG, tracker=watcher.tracker, mode=Mode.FORCED, now=seen.at)
    assert codes(ignored) == [LEVELS[name][0]]


@pytest.mark.parametrize("code", [Code.HELD_BY_USER, Code.TRAINER_FAILED, Code.MODELS_BUSY, Code.NO_ARTIFACT_SET])
def test_a_forced_round_still_obeys_its_owner_and_what_is_impossible(code: Code) -> None:
    assert codes(Watcher(WORK_FACTS[code], mode=Mode.FORCED).see(0)) == [code]


@pytest.mark.parametrize("code", [Code.COOLDOWN, Code.TOO_FEW_SAMPLES, Code.NOTHING_NEW, Code.SAMPLES_ARRIVING])
def test_a_forced_round_does_not_wait_for_samples_or_rest(code: Code) -> None:
    assert Watcher(WORK_FACTS[code], mode=Mode.FORCED).see(0) == []


def test_nothing_is_overridden_without_force() -> None:
    seen = conditions(0, external_power=False)
    assert overridden(seen, READY, CONFIG, tracker=Tracker(), mode=Mode.AUTO, now=seen.at) == []


def test_every_kind_of_reason_occurs() -> None:
    assert {kind.kind for kind in REASONS.values()} == set(Kind)


def test_a_tracker_without_history_starts_from_what_it_sees() -> None:
    tracker = look(Tracker(), conditions(7, external_power=False), CONFIG.conditions)
    assert tracker.met_since["external_power"] is None
    assert tracker.met_since["disk_free"] == -math.inf


def test_limits_come_from_the_configuration() -> None:
    config = msgspec.structs.replace(
        CONFIG,
        conditions=msgspec.structs.replace(
            CONFIG.conditions,
            soc_temperature=msgspec.structs.replace(CONFIG.conditions.soc_temperature, stop_celsius=50),
        ),
    )
    seen = conditions(0, soc_temperature=55.0)
    facts = msgspec.structs.replace(READY, is_running=True)
    assert codes(decide(seen, facts, config, tracker=Tracker(), mode=Mode.AUTO, now=seen.at)) == [Code.SOC_HOT]
