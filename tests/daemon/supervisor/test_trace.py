"""Is what was sensed written down, and does the policy do the same with it again?"""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.policy.test_decide import GOOD, conditions
from tests.daemon.policy.test_traces import values
from tests.traces.make import FOLDER, STORIES, trace_text, transitions_text

from mmd.conditions import Instant
from mmd.config import Config
from mmd.errors import InputRefused, UsageError
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
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "trace").write_text(text)
    with pytest.raises(InputRefused, match=word):
        read_trace(tmp_path / "trace")


def test_a_trace_that_was_cut_off_in_a_line_is_read_up_to_it(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text('{"trace": 1}\n{"at": 5, "readings": {}}\n{"at": 6, "rea')
    assert [line.at for line in read_trace(tmp_path / "trace")] == [5.0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="nowhere"):
        read_trace(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Cannot write the trace"):
        TraceWriter(tmp_path / "no" / "folder", Instant(1.0, 1.0))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_trace_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        writer = TraceWriter(Path("/dev/full"), Instant(1.0, 1.0))
        writer.note(conditions(5.0))
    assert "the trace is not written any more" in caplog.text


def test_an_empty_trace_has_no_transitions(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(json.dumps({"trace": 1, "wall": 1.0}) + "\n")
    assert list(replay(read_trace(tmp_path / "trace"), CONFIG)) == []
