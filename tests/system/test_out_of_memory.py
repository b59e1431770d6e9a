"""Does a trainer that really runs out of memory cost its round, and never the daemon?"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes.board import Board
from tests.fakes.running import Rig, is_alive, rig, wait_for_trainer
from tests.plans import round_plan
from tests.support import eventually, run_mmd
from tests.tiny import tiny_board

from mmd.config import load_config
from mmd.layout import StateDir, round_folder
from mmd.promotion.outcome import read_outcome
from mmd.supervisor.memory import learn
from mmd.training.plan import read_plan

MEMORY_MIB = 420
"""Enough for half of the batch, too little for all of it."""
CONFIGURATION = f"""
[training]
batch_size = 32000
epochs = 1
[daemon]
trainer_memory_mib = {MEMORY_MIB}
"""
TOLD = f"The trainer ran out of the {MEMORY_MIB} MiB that `daemon.trainer_memory_mib` allows it"


def test_the_third_round_without_memory_halves_the_micro_batch_and_then_it_is_enough(
    tmp_path: Path, tiny_set: Path
) -> None:
    state = tiny_board(tmp_path / "state", tiny_set).state
    config = tmp_path / "mmd.toml"
    config.write_text(CONFIGURATION)
    for _ in range(2):
        learn(state, load_config(config), round_plan(batch_size=32000))
    ran = run_mmd("train", "--force", "--config", config, state=state.root)
    assert ran.code == 1
    halved = f"{TOLD}, so it computes no more than 16000 samples at once."
    assert ran.error_lines[-1] == f"mmd: Round 1 was abandoned: {halved}"
    ran = run_mmd("train", "--force", "--config", config, state=state.root)
    assert ran.code == 0, ran.err
    assert read_plan(round_folder(state, 2)).micro_batch == 16000
    status = json.loads(run_mmd("status", "--json", "--config", config, state=state.root).out)
    assert status["memory"]["micro_batch"] == 16000
    assert f"Note: {halved}" in run_mmd("why", "--config", config, state=state.root).out
    # Without that limit nothing is in force.
    assert json.loads(run_mmd("status", "--json", state=state.root).out)["memory"] is None


def test_the_daemon_outlives_a_trainer_without_memory_and_says_what_happened(tmp_path: Path, tiny_set: Path) -> None:
    state = StateDir(tiny_board(tmp_path / "state", tiny_set).state.root)
    board = Rig(tmp_path, Board(tmp_path / "board"), state, tmp_path / "mmd.toml")
    board.configure(more="[training]\nbatch_size = 32000\n")
    text = board.config.read_text().replace("[daemon]\n", f"[daemon]\ntrainer_memory_mib = {MEMORY_MIB}\n")
    board.config.write_text(text)
    board.start(sys.executable, "-m", "mmd", "run", "--state-dir", str(state.root), "--config", str(board.config))
    try:
        eventually(lambda: read_outcome(round_folder(state, 1)) is not None)
        outcome = read_outcome(round_folder(state, 1))
        assert outcome is not None
        assert (outcome.outcome, outcome.reason) == ("abandoned", f"{TOLD} in a round.")
        assert board.status()["memory"]["rounds"] == 1
        assert "cooldown" in board.codes()
    finally:
        assert board.stop() == 0


@contextmanager
def little_memory(mib: int) -> Iterator[Path]:
    """Make a control group with a memory limit that the kernel enforces by killing."""
    for base, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(base) / f"mmd-test-{os.getpid()}"
        if os.access(base, os.W_OK):
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(mib * 1024 * 1024))
                yield group
            group.rmdir()
            return
    pytest.skip("no control group with a memory limit can be made here")


def test_a_trainer_that_the_kernel_kills_for_memory_costs_its_round(tmp_path: Path) -> None:
    with little_memory(96) as group, rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        child = wait_for_trainer(board, step=1)
        (group / "cgroup.procs").write_text(str(child.pid))
        (board.state.root / "hog").touch()
        eventually(lambda: read_outcome(round_folder(board.state, 1)) is not None)
        outcome = read_outcome(round_folder(board.state, 1))
        assert outcome is not None
        assert outcome.outcome == "abandoned"
        assert "ran out of the 1024 MiB" in outcome.reason
        assert board.status()["daemon"]["pid"] == board.process.pid  # type: ignore[union-attr]
        eventually(lambda: not is_alive(child.pid))
