"""Does the real daemon take a worse model back, on a board where nothing may train?"""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemon.supervisor.test_probation import bring, promote, serving
from tests.support import eventually
from tests.tiny import Board, tiny_board

from mmd import Predictor
from mmd.demo.board import SimulatedBoard
from mmd.errors import DaemonNotRunning
from mmd.supervisor.client import ask
from mmd.supervisor.history import open_history


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    promote(board, 1, says=1)
    promote(board, 2, says=2)
    return board


def test_a_worse_model_goes_back_on_battery_and_predictors_follow(board: Board, tmp_path: Path) -> None:
    simulated = SimulatedBoard(tmp_path / "board")
    simulated.create()
    simulated.plug(is_charging=False)
    config = tmp_path / "mmd.toml"
    config.write_text(f'[daemon]\nsys_root = "{simulated.root}"\npoll_seconds = 0.2\n')
    command = [sys.executable, "-m", "mmd", "run", "--state-dir", str(board.state.root), "--config", str(config)]
    predictor = Predictor(board.state)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            eventually(lambda: model(board) == (2, "probation"))
            bring(board, 9, label=1, seed=5)
            eventually(lambda: serving(board) == 1, within=120)
            eventually(lambda: model(board) == (1, "probation"))
        finally:
            daemon.terminate()
        assert daemon.wait(60) == 0
    predictor.refresh()
    assert predictor.generation == 1
    history = open_history(board.state.history_db)
    assert history is not None
    with history:
        (event,) = [each for each in history.events() if each.name == "taken_back"]
        assert "training" not in {change.state for change in history.states()}
    assert event.detail == (
        "Generation 2. Worse than generation 1 by more than chance: 9 -> 0 right of 9 samples that came since."
    )


def model(board: Board) -> tuple[int, str] | None:
    """Return the generation and its phase as the daemon tells them."""
    try:
        told = ask(board.state.control_socket, {"request": "status"})["status"]["model"]
    except DaemonNotRunning:
        return None
    return told["generation"], told["phase"]
