"""Does the timeline say for how long each reason held, and which single limit cost most?"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmd.policy.reasons import REASONS
from mmd.supervisor.history import History
from mmd.supervisor.states import State
from mmd.supervisor.timeline import Timeline, is_limit, read_timeline

Row = tuple[float, str, Sequence[str]]


def timeline(folder: Path, *rows: Row, since: float = 0.0, until: float = 100.0, is_running: bool = True) -> Timeline:
    path = folder / "history.db"
    path.unlink(missing_ok=True)
    with History(path) as history:
        for at, state, reasons in rows:
            history.add_state(at, state, reasons, round_number=None, step=None)
        return read_timeline(history, since, until, is_running=is_running)


def test_each_reason_is_added_up_and_counted(tmp_path: Path) -> None:
    found = timeline(
        tmp_path,
        (0, "waiting", ["on_battery", "user_active"]),
        (10, "waiting", ["user_active"]),
        (40, "training", []),
        (60, "suspended", ["on_battery"]),
        (65, "training", []),
    )
    totals = {total.code: (total.seconds, total.alone_seconds, total.times) for total in found.reasons}
    assert totals == {"user_active": (40, 30, 1), "on_battery": (15, 5, 2)}
    assert [total.code for total in found.reasons] == ["user_active", "on_battery"]
    assert (found.observed_seconds, found.possible_seconds, found.training_seconds) == (100, 55, 55)


def test_the_costliest_limit_is_the_one_that_held_alone_for_longest(tmp_path: Path) -> None:
    found = timeline(
        tmp_path,
        (0, "waiting", ["on_battery", "user_active"]),
        (80, "waiting", ["soc_hot"]),
        (85, "training", []),
    )
    assert found.costliest is not None
    assert found.costliest.code == "soc_hot"


def test_a_lack_of_work_is_no_limit(tmp_path: Path) -> None:
    found = timeline(tmp_path, (0, "idle", ["nothing_new"]), (50, "idle", ["nothing_new", "user_active"]))
    assert found.possible_seconds == 50
    assert found.costliest is not None
    assert (found.costliest.code, found.costliest.alone_seconds) == ("user_active", 50)
    assert {code.value for code in REASONS if not is_limit(code.value)} == {
        "too_few_samples",
        "nothing_new",
        "no_artifact_set",
    }


def test_what_was_in_force_at_the_beginning_counts_from_there(tmp_path: Path) -> None:
    found = timeline(tmp_path, (-500, "idle", []), (-50, "waiting", ["soc_hot"]), (20, "training", []))
    assert [(stretch.began, stretch.ended, stretch.state) for stretch in found.stretches] == [
        (0, 20, "waiting"),
        (20, 100, "training"),
    ]


def test_before_the_first_start_no_daemon_ran(tmp_path: Path) -> None:
    found = timeline(tmp_path, (30, "training", []))
    assert found.stretches[0].state == "stopped"
    assert found.observed_seconds == 70


def test_a_daemon_that_is_gone_ended_at_its_last_sign_of_life(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.add_state(10, "training", [], round_number=1, step=1)
        history.add_conditions(35, {})
        found = read_timeline(history, 0, 100, is_running=False)
    assert found.training_seconds == 25


def test_a_clock_that_jumped_back_makes_no_time_negative(tmp_path: Path) -> None:
    found = timeline(tmp_path, (50, "training", []), (20, "suspended", ["on_battery"]), (60, "training", []))
    assert [(stretch.began, stretch.ended) for stretch in found.stretches] == [(0, 50), (50, 60), (60, 100)]


def test_an_empty_history_says_that_nothing_ran(tmp_path: Path) -> None:
    found = timeline(tmp_path)
    assert (found.observed_seconds, found.reasons, found.costliest) == (0, (), None)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-50, 150),
            st.sampled_from([*(state.value for state in State), "stopped"]),
            st.lists(st.sampled_from([code.value for code in REASONS]), unique=True, max_size=3),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_the_stretches_fill_the_time_and_no_total_exceeds_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], is_running: bool
) -> None:
    found = timeline(tmp_path_factory.getbasetemp(), *rows, is_running=is_running)
    edges = [found.since, *(stretch.ended for stretch in found.stretches)]
    assert [stretch.began for stretch in found.stretches] == edges[:-1]
    assert edges[-1] == found.until
    assert all(0 <= total.alone_seconds <= total.seconds <= 100.001 for total in found.reasons)
    assert found.possible_seconds <= found.observed_seconds <= 100.001
