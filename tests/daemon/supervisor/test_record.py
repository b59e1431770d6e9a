"""Is what changed written down, and what did not change left out?"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from tests.daemon.policy.test_decide import conditions

from mmd.conditions import Instant
from mmd.errors import MmdError
from mmd.policy import Code, Reason
from mmd.supervisor.history import History
from mmd.supervisor.record import OPEN_ROUND_SECONDS, QUIET_SECONDS, RETRY_SECONDS, Recorder
from mmd.supervisor.states import State

UNPLUGGED = Reason(Code.ON_BATTERY, "On battery.", since=1e9, clears_when="plugged in")


class Notes:
    """Feeds a recorder with looks."""

    def __init__(self, path: Path, *, began: float = 1e9) -> None:
        self.recorder = Recorder(path, Instant(wall=began, monotonic=0))
        assert self.recorder._history is not None
        self.history = self.recorder._history

    def look(self, monotonic: float, *reasons: Reason, **seen: Any) -> None:
        note(self.recorder, monotonic, *reasons, **seen)


def note(
    recorder: Recorder,
    monotonic: float,
    *reasons: Reason,
    state: State = State.TRAINING,
    is_open: bool = True,
    **values: object,
) -> None:
    seen = conditions(monotonic, **values)
    recorder.note(state, reasons, seen, round_number=1 if is_open else None, step=3, now=seen.at)


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path / "history.db")
    yield made
    made.history.close()


def test_a_state_is_written_when_it_changes_and_only_then(notes: Notes) -> None:
    notes.look(0)
    notes.look(1)
    notes.look(2, UNPLUGGED, state=State.SUSPENDED)
    notes.look(3, UNPLUGGED, state=State.SUSPENDED)
    assert [(change.state, change.reasons) for change in notes.history.states()] == [
        ("training", ()),
        ("suspended", ("on_battery",)),
    ]


def test_a_reason_is_a_span_from_its_beginning_to_its_end(notes: Notes) -> None:
    notes.look(5, UNPLUGGED, state=State.SUSPENDED)
    notes.look(9)
    (span,) = notes.history.reasons()
    assert (span.code, span.began, span.ended) == ("on_battery", 1e9, 1e9 + 9)


def test_conditions_are_kept_now_and_then(notes: Notes) -> None:
    for second in range(30):
        notes.look(second, soc_temperature=40.0 + second)
    assert [sample.at - 1e9 for sample in notes.history.conditions()] == [0, OPEN_ROUND_SECONDS, 2 * OPEN_ROUND_SECONDS]


def test_conditions_are_kept_more_seldom_without_a_round(notes: Notes) -> None:
    for second in range(130):
        notes.look(second, state=State.IDLE, is_open=False, soc_temperature=40.0 + second / 10)
    assert [sample.at - 1e9 for sample in notes.history.conditions()] == [0, QUIET_SECONDS, 2 * QUIET_SECONDS]


def test_a_daemon_that_runs_for_months_keeps_thirty_days(notes: Notes) -> None:
    day = 86400.0
    for number in range(100):
        notes.look(number * day, UNPLUGGED, state=State.SUSPENDED, soc_temperature=40.0 + number)
    assert len(notes.history.conditions()) == 31
    assert [change.state for change in notes.history.states()] == ["suspended"]
    assert [span.ended for span in notes.history.reasons()] == [None]


def test_conditions_that_stay_the_same_are_kept_once(notes: Notes) -> None:
    for second in range(100):
        notes.look(second)
    assert len(notes.history.conditions()) == 1


def test_a_yes_that_becomes_a_no_is_kept_at_once(notes: Notes) -> None:
    notes.look(0)
    notes.look(1, external_power=False)
    assert [sample.readings["external_power"] for sample in notes.history.conditions()] == [True, False]


def test_the_end_of_the_daemon_is_written(notes: Notes, tmp_path: Path) -> None:
    notes.look(0, UNPLUGGED, state=State.SUSPENDED)
    notes.recorder.stop(Instant(wall=1e9 + 7, monotonic=7))
    with History(tmp_path / "history.db", read_only=True) as history:
        last = history.last_state()
        assert last is not None
        assert last.state == "stopped"
        assert [span.ended for span in history.reasons()] == [1e9 + 7]


def test_a_history_that_cannot_be_written_is_named_once_and_survived(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    notes.history._connection.execute("PRAGMA query_only = ON")
    with caplog.at_level(logging.WARNING):
        notes.look(0)
        notes.look(1, msgspec.structs.replace(UNPLUGGED), state=State.SUSPENDED)
    assert len(caplog.records) == 1


def test_a_history_without_room_is_taken_up_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> History:
        raise MmdError(f"No space left for the history {path}.")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("mmd.supervisor.record.open_to_write", refuse)
        recorder = Recorder(tmp_path / "history.db", Instant(wall=1e9, monotonic=0))
        for second in (0, 3, 20):
            note(recorder, second, UNPLUGGED, state=State.SUSPENDED)
    assert len(caplog.records) == 1
    note(recorder, 20 + RETRY_SECONDS, UNPLUGGED, state=State.SUSPENDED)
    with History(tmp_path / "history.db") as history:
        assert [(change.state, change.reasons) for change in history.states()] == [("suspended", ("on_battery",))]
        (span,) = history.reasons()
        assert (span.code, span.began, span.ended) == ("on_battery", 1e9, None)
        assert len(history.conditions()) == 1
    recorder.stop(Instant(wall=1e9 + 90, monotonic=90))


def test_a_daemon_without_a_history_can_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmd.supervisor.record.open_to_write", Mock(side_effect=MmdError("No space left.")))
    Recorder(tmp_path / "history.db", Instant(wall=1e9, monotonic=0)).stop(Instant(wall=1e9 + 7, monotonic=7))


def test_a_daemon_that_was_killed_is_noted_to_have_stopped_at_its_last_sign_of_life(tmp_path: Path) -> None:
    before = Notes(tmp_path / "history.db")
    before.look(5, UNPLUGGED, state=State.SUSPENDED)
    before.look(90, UNPLUGGED, state=State.SUSPENDED, soc_temperature=50.0)
    before.history.close()
    with Notes(tmp_path / "history.db", began=1e9 + 5000).history as history:
        assert [(change.at - 1e9, change.state) for change in history.states()] == [(5, "suspended"), (90, "stopped")]
        (span,) = history.reasons()
        assert span.ended == 1e9 + 90
