"""Whatever a board does over time: does training keep within the limits, never flap, and start when it may?"""

import dataclasses
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.policy.test_decide import CONFIG, GOOD, READY, conditions

from mmd.conditions import Instant
from mmd.conditions.sense import reckoned
from mmd.config import Config
from mmd.limits import AllowedHours, ConditionsConfig, DutyCycle, RunLength, TrainingTimeToday
from mmd.policy import Facts, Mode, Tracker, decide, look, remember
from mmd.policy.levels import LEVELS, standing
from mmd.supervisor.trace import Account

SETTLED_SECONDS = 601.0
"""Longer than every dwell of the configuration."""

values = st.fixed_dictionaries(
    {},
    optional={
        "external_power": st.booleans(),
        "battery_charge": st.one_of(st.none(), st.floats(0, 100)),
        "user_idle": st.one_of(st.none(), st.floats(0, 1000)),
        "soc_temperature": st.one_of(st.none(), st.floats(-40, 150)),
        "memory_available": st.floats(0, 1000),
        "disk_free": st.floats(0, 1000),
        "cpu_used_by_others": st.one_of(st.none(), st.floats(0, 100)),
        "cpu_pressure": st.one_of(st.none(), st.floats(0, 100)),
        "memory_pressure": st.floats(0, 100),
        "io_pressure": st.floats(0, 100),
        "battery_temperature": st.one_of(st.none(), st.floats(-20, 90)),
        "exclusive_processes": st.one_of(st.none(), st.sampled_from([0.0, 1.0, 3.0])),
        "allowed_hours": st.booleans(),
        "run_length": st.floats(0, 60),
        "duty_cycle": st.floats(0, 100),
        "training_time_today": st.floats(0, 200),
        "training_energy_today": st.one_of(st.none(), st.floats(0, 5)),
    },
)
traces = st.lists(st.tuples(st.floats(0.1, 60), values), min_size=1, max_size=40)


@dataclasses.dataclass
class Replay:
    """Runs the policy over a trace as the daemon does, and keeps when training started and stopped."""

    facts: Facts = READY
    is_running: bool = False
    now: float = 0.0
    tracker: Tracker = dataclasses.field(default_factory=Tracker)

    def see(self, seconds: float, readings: dict[str, Any]) -> None:
        self.now += seconds
        seen = conditions(self.now, **readings)
        self.tracker = look(self.tracker, seen, CONFIG.conditions)
        facts = msgspec.structs.replace(self.facts, is_running=self.is_running)
        reasons = decide(seen, facts, CONFIG, tracker=self.tracker, mode=Mode.AUTO, now=seen.at)
        self.tracker = remember(self.tracker, reasons, seen.at)
        self.is_running = not reasons
        if self.is_running:
            for name in LEVELS:
                assert standing(name, seen, CONFIG.conditions).meets_stop, f"it trains although {name} says stop"


@settings(max_examples=200, deadline=None)
@given(traces)
def test_no_trace_trains_beyond_a_stop_level(trace: list[tuple[float, dict[str, Any]]]) -> None:
    replay = Replay()
    for seconds, readings in trace:
        replay.see(seconds, readings)


@settings(max_examples=200, deadline=None)
@given(traces)
def test_every_trace_that_ends_well_ends_in_training(trace: list[tuple[float, dict[str, Any]]]) -> None:
    replay = Replay()
    for seconds, readings in trace:
        replay.see(seconds, readings)
    replay.see(1, GOOD)
    replay.see(SETTLED_SECONDS, GOOD)
    assert replay.is_running


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 3), st.booleans()), min_size=2, max_size=80))
def test_a_flapping_charger_never_flaps_training_faster_than_the_dwell(trace: list[tuple[float, bool]]) -> None:
    replay, last_bad = Replay(), None
    for seconds, is_plugged in trace:
        was_running = replay.is_running
        replay.see(seconds, {"external_power": is_plugged})
        if not is_plugged:
            last_bad = replay.now
        if replay.is_running and not was_running and last_bad is not None:
            assert replay.now - last_bad >= CONFIG.conditions.external_power.dwell_seconds


@settings(max_examples=200, deadline=None)
@given(traces)
def test_no_condition_starts_training_before_its_dwell(trace: list[tuple[float, dict[str, Any]]]) -> None:
    replay = Replay()
    last_bad: dict[str, float] = {}
    for seconds, readings in trace:
        was_running = replay.is_running
        replay.see(seconds, readings)
        seen = conditions(replay.now, **readings)
        for name in LEVELS:
            stands = standing(name, seen, CONFIG.conditions)
            assert stands.meets_stop or not stands.meets_start, f"{name} meets its start level and not its stop level"
            if not stands.meets_start:
                last_bad[name] = replay.now
            elif replay.is_running and not was_running and name in last_bad:
                assert replay.now - last_bad[name] >= stands.dwell_seconds


limits = st.builds(
    ConditionsConfig,
    allowed_hours=st.sampled_from([AllowedHours(), AllowedHours(windows=("22:00-07:00",))]),
    run_length=st.builds(RunLength, stop_minutes=st.one_of(st.none(), st.floats(1, 90)), rest_minutes=st.floats(0, 60)),
    duty_cycle=st.builds(DutyCycle, share_percent=st.floats(5, 100), burst_minutes=st.floats(1, 60)),
    training_time_today=st.builds(TrainingTimeToday, stop_minutes=st.one_of(st.none(), st.floats(1, 300))),
)


@settings(max_examples=40, deadline=None)
@given(limits, st.lists(st.floats(1, 3600), min_size=1, max_size=60))
def test_no_limit_on_training_itself_is_passed_by_more_than_one_look(
    chosen: ConditionsConfig, looks: list[float]
) -> None:
    config, account = Config(conditions=chosen), Account(chosen.duty_cycle)
    tracker, is_running, now, longest = Tracker(), False, Instant(0.0, 0.0), max(looks)
    for seconds in looks:
        now = Instant(now.wall + seconds, now.monotonic + seconds)
        usage = account.turn(now, was_running=is_running)
        seen = msgspec.structs.replace(conditions(now.monotonic), at=now, **reckoned(now, chosen, usage))
        tracker = look(tracker, seen, chosen)
        facts = msgspec.structs.replace(READY, is_running=is_running)
        is_running = not decide(seen, facts, config, tracker=tracker, mode=Mode.AUTO, now=now)
        if chosen.run_length.stop_minutes is not None:
            assert usage.run_seconds <= chosen.run_length.stop_minutes * 60 + longest
        if chosen.training_time_today.stop_minutes is not None:
            assert usage.minutes_trained_today <= chosen.training_time_today.stop_minutes + longest / 60
        assert not (is_running and seen.allowed_hours.value is False)
