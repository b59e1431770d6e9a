"""Does the report draw what the history says, and nothing that did not happen?"""

from pathlib import Path

import msgspec
import pytest
from tests.plans import round_plan
from tests.tiny import tiny_board

from mmd.report.collect import collect
from mmd.report.data import Span
from mmd.report.render import write_report
from mmd.supervisor.history import open_to_write
from mmd.training.losses import LossLine
from mmd.training.plan import write_plan
from mmd_tools.presets import PRESETS


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


@pytest.mark.parametrize(
    ("preset", "curves"),
    [("independent", ["total", "labels"]), ("adamant", ["total", "labels", "soft targets", "hint"])],
)
def test_what_a_mentor_that_nobody_asked_did_not_say_is_not_drawn(
    tmp_path: Path, tiny_set: Path, preset: str, curves: list[str]
) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    folder = write_plan(board.state, round_plan(preset=preset, schedule=PRESETS[preset]))
    line = LossLine(
        1, loss=1.0, label=1.0, soft=0.1, hints=(0.3,), alpha=1.0, beta=(0.0,), gamma=0.0, learning_rate=0.1
    )
    (folder / "losses.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    data = collect(board.state, title="x")
    assert [curve.name for curve in data.rounds[0].curves] == curves
    write_report(data, tmp_path / "report.html")
    told = "The Mentor was not asked: labels alone taught this round." in (tmp_path / "report.html").read_text()
    assert told == (preset == "independent")
