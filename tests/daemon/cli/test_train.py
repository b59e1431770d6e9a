"""Does `mmd train` run a round with and without a daemon, and say in plain words what came of it?"""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import eventually, run_mmd, started
from tests.tiny import Board, tiny_board

from mmd.cli.train import parts_of
from mmd.config import Config
from mmd.layout import StateDir, round_folder
from mmd.promotion.outcome import read_outcome
from mmd.supervisor.accounts import round_cost
from mmd.supervisor.history import History
from mmd.supervisor.lock import DaemonLock
from mmd.supervisor.progress import open_round
from mmd.supervisor.rounds import begin_round

CALM = """
[daemon]
sys_root = "{root}"
cooldown_seconds = 0
poll_seconds = 0.1
[conditions.memory_available]
start_mib = 0
stop_mib = 0
[conditions.disk_free]
start_mib = 0
stop_mib = 0
[training]
epochs = {epochs}
checkpoint_every_steps = 10
"""


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set)


def configured(tmp_path: Path, *, epochs: int = 15, extra: str = "") -> dict[str, str]:
    """Return the environment of a board that nothing keeps from training."""
    (tmp_path / "root").mkdir(exist_ok=True)
    path = tmp_path / "mmd.toml"
    path.write_text(CALM.format(root=tmp_path / "root", epochs=epochs) + extra)
    return {"MMD_CONFIG": str(path)}


def test_a_round_runs_here_and_its_verdict_is_one_line(board: Board, tmp_path: Path) -> None:
    ran = run_mmd("train", state=board.state.root, env=configured(tmp_path))
    assert ran.code == 0, ran.err
    assert ran.err == "", "silent in a pipe"
    assert len(ran.out.splitlines()) == 1
    assert "right of 23 held-out samples" in ran.out
    assert ran.out.endswith("Generation 1 serves now.\n")
    assert board.models().current().card.generation == 1


def test_a_candidate_that_is_not_better_leaves_the_serving_model_and_says_so(board: Board, tmp_path: Path) -> None:
    env = configured(tmp_path, extra="learning_rate = 1e-9\nmemory = false\n")
    ran = run_mmd("train", state=board.state.root, env=env)
    assert ran.code == 0, ran.err
    assert ran.out.endswith("The serving model stays.\n")
    assert board.models().current().card.generation == 0


def test_json_has_the_outcome_and_the_verdict(board: Board, tmp_path: Path) -> None:
    ran = run_mmd("train", "--json", state=board.state.root, env=configured(tmp_path))
    outcome = json.loads(ran.out)
    assert (outcome["round"], outcome["outcome"], outcome["generation"]) == (1, "promoted", 1)
    assert outcome["verdict"]["holdout_total"] == 23


def test_the_policy_says_no_in_one_line_and_force_trains_all_the_same(board: Board, tmp_path: Path) -> None:
    env = configured(tmp_path, extra="min_samples = 1000\n")
    ran = run_mmd("train", state=board.state.root, env=env)
    assert ran.code == 1
    assert len(ran.error_lines) == 1
    assert ran.err.startswith("mmd: Not now: Samples to train on: 57")
    assert "--force" in ran.err
    assert open_round(board.state) is None
    assert run_mmd("train", "--force", state=board.state.root, env=env).code == 0


def test_the_owners_hold_counts_as_a_reason(board: Board, tmp_path: Path) -> None:
    board.state.hold_file.touch()
    ran = run_mmd("train", state=board.state.root, env=configured(tmp_path))
    assert "mmd resume" in ran.err
    assert ran.code == 1


def test_an_open_round_is_finished_first(board: Board, tmp_path: Path) -> None:
    with board.store() as store:
        begin_round(board.state, Config(), store)
    ran = run_mmd("train", "--force", "--json", state=board.state.root, env=configured(tmp_path))
    assert json.loads(ran.out)["round"] == 1
    assert open_round(board.state) is None


def test_it_says_which_model_is_trained_since_the_loss_begins_anew_with_each(board: Board) -> None:
    with board.store() as store:
        plan = begin_round(board.state, Config(), store)
    names = ["fold model 1 of 4", "fold model 2 of 4", "fold model 3 of 4", "fold model 4 of 4", "candidate"]
    ends, shown = zip(*parts_of(plan), strict=True)
    assert list(shown) == names
    assert (ends[0], ends[-1]) == (plan.fold_steps[0], plan.steps_in_all)


def test_without_samples_it_says_what_to_do(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=0)
    ran = run_mmd("train", "--force", state=board.state.root, env=configured(tmp_path))
    assert ran.code == 2
    assert "mmd ingest" in ran.err


def test_a_trainer_that_fails_gives_its_reason_and_its_exit_code(board: Board, tmp_path: Path) -> None:
    with board.store() as store:
        begin_round(board.state, Config(), store)
    (board.state.rounds / "0001" / "plan.json").write_text("{")
    ran = run_mmd("train", "--force", state=board.state.root, env=configured(tmp_path))
    assert ran.code == 4
    assert len(ran.error_lines) == 1
    assert "plan.json" in ran.err


def test_a_round_without_a_daemon_counts_in_the_budgets_and_in_the_history(board: Board, tmp_path: Path) -> None:
    env = configured(tmp_path, extra="[conditions.training_time_today]\nstop_minutes = 0.001\n")
    assert run_mmd("train", state=board.state.root, env=env).code == 0
    status = json.loads(run_mmd("status", "--json", state=board.state.root, env=env).out)
    assert status["usage"]["minutes_today"] > 0
    assert [reason["code"] for reason in status["reasons"] if reason["code"] == "time_budget_spent"]
    with History(board.state.history_db, read_only=True) as history:
        assert [(record.number, record.outcome) for record in history.rounds()] == [(1, "promoted")]
        assert [change.state for change in history.states()] == ["training", "stopped"]
    assert round_cost(board.state, 1).seconds > 0
    ran = run_mmd("train", state=board.state.root, env=env)
    assert ran.code == 1
    assert "Training has run for" in ran.err


def test_a_folder_in_use_by_something_without_a_socket_is_refused(board: Board, tmp_path: Path) -> None:
    with DaemonLock(board.state.lock_file):
        ran = run_mmd("train", "--force", state=board.state.root, env=configured(tmp_path))
    assert ran.code == 2
    assert "already in use" in ran.err


def command(board: Board, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mmd", "--state-dir", str(board.state.root), *arguments]


def step(board: Board) -> int:
    """Return how many steps the round has taken, those of its fold models, which come first, too."""
    folder = board.state.rounds / "0001"
    files = [folder / "losses.jsonl", *folder.glob("folds/*/losses.jsonl")]
    return sum(len(path.read_bytes().splitlines()) for path in files if path.exists())


def test_ctrl_c_leaves_the_round_open_at_a_checkpoint(board: Board, tmp_path: Path) -> None:
    env = os.environ | configured(tmp_path, epochs=2000)
    with started(command(board, "train", "--force"), env=env, stderr=subprocess.PIPE, text=True) as running:
        eventually(lambda: step(board) > 3, within=120)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.strip() == "mmd: round 1 stays open; `mmd train` or `mmd run` goes on with it."
    assert open_round(board.state) == 1
    assert list((board.state.rounds / "0001").glob("folds/*/checkpoints/*")), "it was at its first fold model"


def test_killed_it_takes_its_trainer_along(board: Board, tmp_path: Path) -> None:
    env = os.environ | configured(tmp_path, epochs=2000)
    with started(command(board, "train", "--force"), env=env) as running:
        eventually(lambda: step(board) > 3, within=120)
        running.kill()
    eventually(lambda: _is_free(board.state.rounds / "0001" / ".lock"), within=120)
    assert open_round(board.state) == 1


def _is_free(lock: Path) -> bool:
    """Return whether no trainer holds the round any more."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_on_a_terminal_a_bar_shows_the_steps_and_the_loss(board: Board, tmp_path: Path) -> None:
    main_end, child_end = pty.openpty()
    env = os.environ | configured(tmp_path, epochs=40) | {"TERM": "xterm", "COLUMNS": "120"}
    with started(command(board, "train", "--force"), env=env, stdout=subprocess.PIPE, stderr=child_end) as run:
        os.close(child_end)
        shown = b""
        while True:
            try:
                data = os.read(main_end, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
        assert run.stdout is not None
        assert b"held-out samples" in run.stdout.read()
    os.close(main_end)
    assert run.returncode == 0
    assert b"round 1" in shown
    assert b"loss" in shown


@contextmanager
def daemon(board: Board, env: dict[str, str]) -> Iterator[None]:
    with started(command(board, "run"), env=os.environ | env, stderr=subprocess.DEVNULL) as running:
        try:
            eventually(board.state.control_socket.exists, within=120)
            yield
        finally:
            running.terminate()
            running.wait(60)


def test_a_running_daemon_does_the_round_and_its_outcome_is_shown(board: Board, tmp_path: Path) -> None:
    env = configured(tmp_path, extra="min_samples = 1000\n")
    with daemon(board, env):
        ran = run_mmd("train", "--force", state=board.state.root, env=env)
    assert ran.code == 0, ran.err
    assert ran.out.endswith("Generation 1 serves now.\n")


def test_a_round_that_ends_while_the_daemon_is_asked_is_no_refusal(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits_for_the_next(state: StateDir) -> dict[str, Any]:
        eventually(lambda: read_outcome(round_folder(state, 1)), within=120)
        return {"state": "waiting", "reasons": [{"message": "Too few samples.", "clears_when": "there are more"}]}

    monkeypatch.setattr("mmd.cli.train._daemon_status", waits_for_the_next)
    env = configured(tmp_path, extra="min_samples = 1000\n")
    with daemon(board, env):
        ran = run_mmd("train", "--force", state=board.state.root, env=env)
    assert ran.code == 0, ran.err


def test_a_running_daemon_that_may_not_train_says_why(board: Board, tmp_path: Path) -> None:
    env = configured(tmp_path, extra="min_samples = 1000\n")
    with daemon(board, env):
        ran = run_mmd("train", state=board.state.root, env=env)
    assert ran.code == 1
    assert "Not now: Samples to train on: 57" in ran.err
