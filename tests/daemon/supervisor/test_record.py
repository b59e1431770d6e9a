"""Is what changed written down, and what did not change left out?"""

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.daemon.policy.test_decide import conditions

from mmd.conditions import Instant
from mmd.policy import Code, Reason
from mmd.supervisor.history import History
from mmd.supervisor.record import OPEN_ROUND_SECONDS, QUIET_SECONDS, Recorder
from mmd.supervisor.states import State

UNPLUGGED = Reason(Code.ON_BATTERY, "On battery.", since=1e9, clears_when="plugged in")


class Notes:
    """Feeds a recorder with looks."""

    def __init__(self, path: Path) -> None:
        self.history = History(path)
        self.recorder = Recorder(self.history, Instant(wall=1e9, monotonic=0))

    def look(
        self, monotonic: float, *reasons: Reason, state: State = State.TRAINING, is_open: bool = True, **values: object
    ) -> None:
        seen = conditions(monotonic, **values)
        number = 1 if is_open else None
        self.recorder.note(state, reasons, seen, round_number=number, step=3, now=seen.at)


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


def test_a_daemon_that_was_killed_is_noted_to_have_stopped_at_its_last_sign_of_life(tmp_path: Path) -> None:
    before = Notes(tmp_path / "history.db")
    before.look(5, UNPLUGGED, state=State.SUSPENDED)
    before.look(90, UNPLUGGED, state=State.SUSPENDED, soc_temperature=50.0)
    before.history.close()
    with History(tmp_path / "history.db") as history:
        Recorder(history, Instant(wall=1e9 + 5000, monotonic=0))
        assert [(change.at - 1e9, change.state) for change in history.states()] == [(5, "suspended"), (90, "stopped")]
        (span,) = history.reasons()
        assert span.ended == 1e9 + 90
