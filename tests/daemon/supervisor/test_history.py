"""Does the history keep what happened, and does it never stand in the daemon's way?"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from mmd.errors import MmdError, StoreDamaged
from mmd.supervisor.history import History, open_history, open_to_write


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with History(path) as history:
        history.add_state(1.0, "training", [], round_number=1, step=0)
        history.add_state(2.0, "suspended", ["on_battery"], round_number=1, step=412)
        history.begin_reason("on_battery", "The board runs on battery.", 2.0)
        history.end_reason("on_battery", 5.0)
        history.add_conditions(2.0, {"external_power": False, "battery_charge": None, "soc_temperature": 41.5})
        history.begin_round(1, 1.0)
        history.begin_round(1, 99.0)
        history.end_round(1, 9.0, "promoted", "Better.")
        history.add_event(3.0, "trainer_failed", "it fell over")
        with open_history(path) or pytest.fail() as reader:
            assert [(change.state, change.reasons, change.step) for change in reader.states()] == [
                ("training", (), 0),
                ("suspended", ("on_battery",), 412),
            ]
            (span,) = reader.reasons()
            assert (span.began, span.ended) == (2.0, 5.0)
            (sample,) = reader.conditions()
            assert sample.readings == {"external_power": False, "battery_charge": None, "soc_temperature": 41.5}
            (record,) = reader.rounds()
            assert (record.began, record.ended, record.outcome) == (1.0, 9.0, "promoted")
            assert [event.name for event in reader.events()] == ["trainer_failed"]
            last = reader.last_state()
            assert last is not None
            assert last.state == "suspended"


def test_reading_begins_at_the_time_that_is_asked_for(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        for at in (1.0, 2.0, 3.0):
            history.add_state(at, "idle", [], round_number=None, step=None)
            history.add_conditions(at, {})
        assert [change.at for change in history.states(since=2.0)] == [2.0, 3.0]
        assert [sample.at for sample in history.conditions(since=3.0)] == [3.0]


def test_what_is_old_is_dropped_but_rounds_stay(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        for at, state in ((1.0, "idle"), (2.0, "waiting"), (11.0, "idle")):
            history.add_state(at, state, [], round_number=None, step=None)
        history.add_conditions(1.0, {})
        history.begin_reason("soc_hot", "Hot.", 1.0)
        history.end_reason("soc_hot", 9.0)
        history.begin_reason("held_by_user", "Held.", 1.0)
        history.begin_round(1, 1.0)
        history.drop_before(10.0)
        assert [change.at for change in history.states()] == [2.0, 11.0]  # the former was in force until the latter
        assert [span.code for span in history.reasons()] == ["held_by_user"]  # it holds still
        assert history.conditions() == []
        assert len(history.rounds()) == 1


def test_reasons_of_a_daemon_that_was_killed_are_closed(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.begin_reason("soc_hot", "Hot.", 5.0)
        history.end_every_reason(3.0)
        (span,) = history.reasons()
        assert span.ended == 5.0


def test_an_empty_history_has_no_last_state(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        assert history.last_state() is None


def test_there_is_nothing_to_read_before_the_first_start(tmp_path: Path) -> None:
    assert open_history(tmp_path / "history.db") is None


def test_a_file_that_is_no_history_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreDamaged, match=r"history.db .*only the record of past decisions is lost"):
        History(tmp_path / "history.db")


def test_a_database_of_something_else_is_refused_and_not_held_open(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE states (name TEXT)")
    with pytest.raises(StoreDamaged, match="no such column: at") as refused:
        History(path)
    assert refused.value.__cause__ is not None, "which holds on to what was being made"
    assert str(path) not in {file.path for file in psutil.Process().open_files()}


def test_the_daemon_moves_a_damaged_history_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"this is no database at all" * 100)
    with caplog.at_level(logging.WARNING), open_to_write(path) as history:
        history.add_event(1.0, "x", "y")
    assert (tmp_path / "history.db.damaged").read_bytes().startswith(b"this is no database")
    assert "moved to history.db.damaged" in caplog.text


def test_a_history_that_cannot_be_opened_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.symlink_to(tmp_path / "a disk that is not there" / "history.db")
    with pytest.raises(MmdError, match=r"Cannot open the history .*history.db; check"):
        open_to_write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["history.db"]


def test_a_history_that_fails_in_use_is_named(tmp_path: Path) -> None:
    with (
        History(tmp_path / "history.db"),
        History(tmp_path / "history.db", read_only=True) as reader,
        pytest.raises(StoreDamaged, match=r"history.db fails"),
    ):
        reader.add_event(1.0, "x", "y")
