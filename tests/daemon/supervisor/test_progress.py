"""Does the daemon know how far a round is, whatever its trainer says and whatever lies on disk?"""

import json
from pathlib import Path
from typing import Any

import pytest

from mmd.conditions import Instant
from mmd.errors import StoreDamaged
from mmd.layout import StateDir
from mmd.supervisor.progress import Progress, after_step, last_end, progress_on_disk

NOW = Instant(wall=10_000.0, monotonic=500.0)


def end_round(state: StateDir, number: int, outcome: str, finished: float) -> None:
    folder = state.rounds / f"{number:04d}"
    folder.mkdir(parents=True)
    done = {"round": number, "outcome": outcome, "reason": "So.", "finished": finished}
    (folder / "done.json").write_text(json.dumps(done))


def test_a_step_moves_the_progress() -> None:
    event = {"event": "step", "step": 7, "steps": 90, "loss": 0.5}
    assert after_step(Progress(3, 6, 90), event) == Progress(3, 7, 90, 0.5)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_none(loss: float) -> None:
    assert after_step(Progress(3, 6, 90), {"step": 7, "steps": 90, "loss": loss}).loss is None


@pytest.mark.parametrize("event", [{}, {"step": "many", "steps": 1, "loss": 1}, {"step": 1, "steps": None, "loss": 1}])
def test_a_step_that_makes_no_sense_changes_nothing(event: dict[str, Any]) -> None:
    assert after_step(Progress(3, 6, 90), event) == Progress(3, 6, 90)


def test_a_round_without_a_plan_has_no_progress(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"plan\.json"):
        progress_on_disk(StateDir(tmp_path), 1)


def test_before_the_first_round_nothing_ended(tmp_path: Path) -> None:
    assert last_end(StateDir(tmp_path), NOW) == (None, 0)


def test_the_end_of_the_last_round_is_reckoned_on_the_monotonic_clock(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    end_round(state, 1, "promoted", 5_000.0)
    end_round(state, 2, "rejected", 9_970.0)
    assert last_end(state, NOW) == (470.0, 0)


def test_a_round_that_ended_in_the_future_ended_now(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    end_round(state, 1, "promoted", 99_999.0)
    assert last_end(state, NOW) == (500.0, 0)


def test_failures_in_a_row_are_counted_from_the_end(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for number, outcome in enumerate(("abandoned", "promoted", "failed", "abandoned"), 1):
        end_round(state, number, outcome, 1.0)
    assert last_end(state, NOW)[1] == 2
