"""Is what was sensed written down, and does the policy do the same with it again?"""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.policy.test_decide import GOOD, conditions
from tests.daemon.policy.test_traces import values
from tests.traces.make import FOLDER, STORIES, trace_text, transitions_text

from mmd.conditions import Instant
from mmd.conditions.kinds import SENSED
from mmd.config import Config
from mmd.errors import InputRefused, UsageError
from mmd.limits import AllowedHours, ConditionsConfig, DutyCycle, RunLength, TrainingTimeToday
from mmd.policy.levels import LEVELS, standing
from mmd.supervisor.states import RUNNING
from mmd.supervisor.trace import Line, TraceWriter, conditions_at, read_trace, replay

CONFIG = Config()


@pytest.mark.parametrize("name", STORIES)
def test_a_shipped_trace_leads_to_the_same_transitions_as_ever(name: str) -> None:
    trace = FOLDER / f"{name}.jsonl"
    assert trace.read_text() == trace_text(name), "write them anew: python -m tests.traces.make"
    assert transitions_text(trace) == trace.with_suffix(".txt").read_text()


def recorded(path: Path, *looks: tuple[float, dict[str, Any]]) -> list[Line]:
    writer = TraceWriter(path, Instant(wall=1e9, monotonic=0.0))
    for at, changed in looks:
        writer.note(conditions(at, **changed))
    writer.close()
    return read_trace(path)


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    looks = [(float(second), {"user_idle": 100.0 + second}) for second in range(20)]
    lines = recorded(tmp_path / "trace", *looks, (20.0, {"user_idle": 120.0, "external_power": False}))
    assert [line.at for line in lines] == [0.0, 20.0]
    assert lines[1].readings["external_power"] is False


def test_somebody_who_touches_the_board_is_a_change(tmp_path: Path) -> None:
    looks = [(0.0, {"user_idle": 100.0}), (5.0, {"user_idle": 1.0}), (6.0, {"user_idle": None})]
    assert [line.readings["user_idle"] for line in recorded(tmp_path / "trace", *looks)] == [100.0, 1.0, None]


def test_the_idle_time_goes_on_between_two_lines() -> None:
    lines = [Line(0.0, {**GOOD, "user_idle": 0.0}), Line(1000.0, {**GOOD, "user_idle": 1000.0})]
    assert [(change.at, change.state.value) for change in replay(lines, CONFIG)] == [
        (0.0, "waiting"),
        (302.0, "training"),
    ]


def calm(hours: float) -> list[Line]:
    """A board on which nothing happens for so long, from midnight on."""
    readings = {name: GOOD[name] for name in SENSED}
    return [Line(0.0, readings, 0.0), Line(hours * 3600, readings, hours * 3600)]


def replayed(lines: list[Line], **limits: Any) -> list[tuple[float, str, tuple[str, ...]]]:
    """Return minutes, state and reasons of each change."""
    config = Config(conditions=ConditionsConfig(**limits))
    return [(change.at / 60, change.state.value, change.reasons) for change in replay(lines, config)]


def test_a_replay_rests_after_the_longest_run() -> None:
    found = replayed(calm(1.5), run_length=RunLength(stop_minutes=30.0, rest_minutes=10.0))
    assert [(round(at), state, *reasons) for at, state, reasons in found] == [
        (0, "training"),
        (30, "suspended", "run_too_long"),
        (40, "training"),
        (70, "suspended", "run_too_long"),
        (80, "training"),
    ]


def test_a_replay_keeps_to_the_share_of_the_time() -> None:
    found = replayed(calm(10.0), duty_cycle=DutyCycle(share_percent=25.0, burst_minutes=20.0))
    ends = [at for at, _, _ in found[1:]] + [600.0]
    trained = sum(end - at for (at, state, _), end in zip(found, ends, strict=True) if state == "training")
    assert 600 * 0.25 <= trained <= 600 * 0.25 + 20
    assert {reasons for _, state, reasons in found if state == "suspended"} == {("duty_cycle",)}


@pytest.mark.usefixtures("universal_time")
def test_a_replay_spends_the_budget_of_each_day_and_keeps_to_the_hours() -> None:
    found = replayed(
        calm(47.0),
        training_time_today=TrainingTimeToday(stop_minutes=60.0),
        allowed_hours=AllowedHours(windows=("22:00-07:00",)),
    )
    assert [(round(at / 60), state, *reasons) for at, state, reasons in found] == [
        (0, "training"),
        (1, "suspended", "time_budget_spent"),
        (7, "suspended", "outside_hours", "time_budget_spent"),
        (22, "suspended", "time_budget_spent"),
        (24, "training"),
        (25, "suspended", "time_budget_spent"),
        (31, "suspended", "outside_hours", "time_budget_spent"),
        (46, "suspended", "time_budget_spent"),
    ]


@pytest.fixture
def universal_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


traces = st.lists(st.tuples(st.floats(0.1, 400), values), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(traces)
def test_no_replay_trains_beyond_a_stop_level(trace: list[tuple[float, dict[str, Any]]]) -> None:
    lines, at = [], 0.0
    for seconds, readings in trace:
        lines.append(Line(at, {**GOOD, **readings}))
        at += seconds
    for change in replay(lines, CONFIG):
        if change.state in RUNNING:
            line = max((line for line in lines if line.at <= change.at), key=lambda line: line.at)
            seen = conditions_at(line, change.at)
            assert [name for name in LEVELS if not standing(name, seen, CONFIG.conditions).meets_stop] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is no trace of version 1"),
        ('{"trace": 9}\n', "is no trace of version 1"),
        ('{"trace": 1}\n{"at": 5, "readings": {}}\n{"at": 4, "readings": {}}\n', "line 3"),
        ('{"trace": 1}\nnothing\n', "line 2: not a JSON object"),
        ('{"trace": 1}\n{"at": 5, "readings": {"external_power": 1}}\n', "line 2"),
        ('{"trace": 1}\n{"at": 5, "readings": {"weather": 1}}\n', "line 2"),
        ('{"trace": 1}\n{"at": "noon", "readings": {}}\n', "line 2"),
        ('{"trace": 1}\n{"at": -5, "readings": {}}\n', "line 2"),
        ('{"trace": 1}\n{"at": NaN, "readings": {}}\n', "line 2"),
        ('{"trace": 1}\n{"at": Infinity, "readings": {}}\n', "line 2"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "trace").write_text(text)
    with pytest.raises(InputRefused, match=word):
        read_trace(tmp_path / "trace")


def test_a_trace_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with pytest.raises(InputRefused, match=rf"^Cannot read the trace {path}: No such file or directory\.$"):
        read_trace(path)
    path.write_bytes(b"\x89PNG")
    with pytest.raises(InputRefused, match=rf"^{path} is no trace; `mmd run --record FILE` writes one\.$"):
        read_trace(path)


def test_a_trace_that_was_cut_off_in_a_line_is_read_up_to_it(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text('{"trace": 1}\n{"at": 5, "readings": {}}\n{"at": 6, "rea')
    assert [line.at for line in read_trace(tmp_path / "trace")] == [5.0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="nowhere"):
        read_trace(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Cannot write the trace"):
        TraceWriter(tmp_path / "no" / "folder", Instant(1.0, 1.0))


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_trace_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        writer = TraceWriter(Path("/dev/full"), Instant(1.0, 1.0))
        writer.note(conditions(5.0))
    assert "the trace is not written any more" in caplog.text


@pytest.mark.parametrize("wall", ["1e300", "-1", "NaN", '"noon"'])
def test_a_wall_time_that_cannot_be_is_taken_for_the_first_day(tmp_path: Path, wall: str) -> None:
    (tmp_path / "trace").write_text(f'{{"trace": 1, "wall": {wall}}}\n{{"at": 5, "readings": {{}}}}\n')
    (line,) = read_trace(tmp_path / "trace")
    assert line.wall == 5.0
    assert list(replay([line], CONFIG))


def test_an_empty_trace_has_no_transitions(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(json.dumps({"trace": 1, "wall": 1.0}) + "\n")
    assert list(replay(read_trace(tmp_path / "trace"), CONFIG)) == []
