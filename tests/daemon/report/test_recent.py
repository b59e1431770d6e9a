"""Does the report say what was learned since yesterday and what each reason cost, as store and history have it?"""

from pathlib import Path

import msgspec
import pytest
from tests.models import put_candidate, verdict
from tests.tiny import Board, tiny_board

from mmd.policy.reasons import Code
from mmd.promotion.models import ModelStore
from mmd.report.recent import recent, words
from mmd.samples.records import NewSample
from mmd.supervisor.history import open_to_write

HOUR = 3600.0


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set, samples=4)


def now_of(board: Board) -> float:
    with board.store() as store:
        return max(record.ingested for record in store.records()) + 1


def test_a_night_without_a_daemon_is_told_plainly(board: Board) -> None:
    told = recent(board.state, None, now=now_of(board))
    assert told.news == (
        "4 samples came in, 4 of them with a label.",
        "No round of training ended.",
        "The daemon did not run.",
    )
    assert told.lost == ()


def test_what_is_older_than_a_day_is_not_told(board: Board) -> None:
    assert recent(board.state, None, now=now_of(board) + 25 * HOUR).news[0] == "No sample came in."


def test_unlabelled_samples_are_counted_as_such(board: Board) -> None:
    with board.store() as store:
        store.add([NewSample(bytes(64), None, "one")])
    assert recent(board.state, None, now=now_of(board)).news[0] == "5 samples came in, 4 of them with a label."


def test_a_promotion_names_the_classes_that_gained_and_lost(board: Board) -> None:
    now = now_of(board)
    won = verdict(1, classes=("a", "b", "c"), confusion_before=((5, 5, 0), (0, 5, 0), (0, 0, 5)))
    gained = ((10, 0, 0), (1, 4, 0), (0, 0, 5))
    put_candidate(board.state, 1, verdict=type(won)(**{**_fields(won), "confusion_after": gained}))
    ModelStore(board.state, now=lambda: now - HOUR).finish_round(1)
    put_candidate(board.state, 2, verdict=verdict(2, promoted=False, generation_before=1))
    ModelStore(board.state, now=lambda: now - HOUR).finish_round(2)
    assert recent(board.state, None, now=now).news[1:3] == (
        "2 rounds of training ended; 1 made a better model.",
        "Generation 1 gets 19 of 20 held-out samples right, where it was 10 (better at: a; worse at: b).",
    )


def _fields(struct: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def test_each_reason_has_its_time_and_what_it_cost_alone(board: Board) -> None:
    now = now_of(board)
    begin = now - 10 * HOUR
    with open_to_write(board.state.history_db) as history:
        for hours, state, codes in (
            (0, "waiting", ("on_battery", "user_active")),
            (4, "waiting", ("on_battery",)),
            (6, "training", ()),
            (8, "idle", ("nothing_new",)),
        ):
            history.add_state(begin + hours * HOUR, state, codes, round_number=None, step=None)
        history.add_state(now, "stopped", (), round_number=None, step=None)
        history.add_event(now - HOUR, "taken_back", "Generation 2. Worse than generation 1.")
        told = recent(board.state, history, now=now)
    figures = [(each.code, each.seconds / HOUR, each.alone_seconds / HOUR, each.is_limit) for each in told.lost]
    assert figures == [
        ("on_battery", pytest.approx(6), pytest.approx(2), True),
        ("user_active", pytest.approx(4), 0, True),
        ("nothing_new", pytest.approx(2), 0, False),
    ]
    assert [each.share for each in told.lost] == pytest.approx([0.6, 0.4, 0.2])
    assert told.news[2:] == (
        "Taken back: Generation 2. Worse than generation 1.",
        "The daemon ran for 10.0 h; training was possible for 40% of that, and ran for 2.0 h.",
        "What cost most by itself: no external power feeds the board (2.0 h; on_battery).",
    )


def test_every_reason_that_the_policy_knows_has_its_meaning(board: Board) -> None:
    now = now_of(board)
    codes = (*(code.value for code in Code), "of_a_later_version")
    with open_to_write(board.state.history_db) as history:
        history.add_state(now - HOUR, "waiting", codes, round_number=None, step=None)
        history.add_state(now, "stopped", (), round_number=None, step=None)
        told = recent(board.state, history, now=now)
    assert {each.code for each in told.lost} == set(codes)
    assert all(each.meaning for each in told.lost)
    assert next(each.meaning for each in told.lost if each.code == "of_a_later_version") == "of a later version"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_times_are_said_as_a_person_would(seconds: float, said: str) -> None:
    assert words(seconds) == said
