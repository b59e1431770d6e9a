"""Does the report draw what the history says, and nothing that did not happen?"""

from pathlib import Path

from tests.tiny import tiny_board

from mmd.report.collect import collect
from mmd.report.data import Span
from mmd.supervisor.history import open_to_write


def test_a_daemon_that_was_killed_is_drawn_until_its_last_sign_of_life(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    with open_to_write(board.state.history_db) as history:
        history.add_state(1000.0, "waiting", ("on_battery",), round_number=None, step=None)
        history.add_state(1100.0, "training", (), round_number=1, step=0)
        history.add_conditions(1160.0, {"external_power": True})
    assert collect(board.state, title="x", now=90_000.0).spans == (
        Span("waiting", 1000.0, 1100.0, "on_battery"),
        Span("training", 1100.0, 1160.0, ""),
    )
