"""Does ctrl-C in the middle of long work leave nothing half-written, and does work show progress on a terminal only?"""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.tools.networks import NEEDS_TRAINING_BUILD, plain, recipe, save

pytestmark = NEEDS_TRAINING_BUILD

RECIPE = """
name = "test"
licence = "MIT"
classes = ["a", "b", "c", "d"]
anchor = "anchor.npz"
[input]
kind = "tensor"
[nets.small]
input = [1, 8, 8]
layers = ["conv 8 3", "relu", "pool 2", "flatten", "fc 4"]
training = { batch_size = 16 }
"""
WORK = {
    "fuse": ["--mentor", "M.onnx", "--mentee", "S.onnx", "--recipe", "R.toml", "--out", "out"],
    "shrink": ["M.onnx", "--data", "data.npz", "--recipe", "R.toml", "--epochs", "500", "--out", "out"],
    "train": ["--net", "small", "--recipe", "R.toml", "--data", "data.npz", "--epochs", "500", "--out", "out"],
    "inspect": ["S.onnx", "--step", "--mentor", "M.onnx", "--recipe", "R.toml"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(plain(8), tmp_path, "M.onnx")
    save(plain(4), tmp_path, "S.onnx")
    recipe(tmp_path)
    (tmp_path / "R.toml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        inputs=rng.standard_normal((400, 1, 8, 8)).astype(np.float32),
        labels=rng.integers(0, 4, 400),
        split=(np.arange(400) % 4 == 0).astype(np.uint8),
        splits=["train", "validation"],
    )
    (tmp_path / "scratch").mkdir()
    return tmp_path


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "mmd_tools.cli", name, *WORK[name]]


class OnTerminal:
    """A command whose progress goes to a terminal, so that it can be seen how far it is."""

    def __init__(self, name: str, folder: Path, *more: str) -> None:
        self._terminal, theirs = pty.openpty()
        options = {"cwd": folder, "env": {**os.environ, "TMPDIR": str(folder / "scratch")}}
        self.process = subprocess.Popen([*command(name), *more], stdout=subprocess.DEVNULL, stderr=theirs, **options)
        os.close(theirs)
        self.shown = ""

    def read_until(self, stage: str | None) -> bool:
        """Read what is shown until `stage` is; `None`: to the end. Returns whether it was."""
        while stage is None or stage not in self.shown:
            try:
                part = os.read(self._terminal, 4096)
            except OSError:  # how a terminal says that the other end is closed
                return False
            self.shown += part.decode(errors="replace")
        return True

    def ended(self) -> int:
        self.read_until(None)
        os.close(self._terminal)
        return self.process.wait(60)

    def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ended()


STAGES = {"fuse": "estimating the memory", "shrink": "training", "train": "loss 1", "inspect": "taking steps"}
"""What is shown while the work goes on."""


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WORK)
def test_an_interrupted_command_leaves_what_was_there_and_nothing_else(name: str, folder: Path) -> None:
    before = contents(folder)
    work = OnTerminal(name, folder)
    assert work.read_until(STAGES[name])
    assert work.interrupted() == 130
    assert "Traceback" not in work.shown
    assert contents(folder) == before
    assert list((folder / "scratch").iterdir()) == []


def test_an_interrupted_replacement_keeps_the_set_that_was_there(folder: Path) -> None:
    assert OnTerminal("fuse", folder).ended() == 0
    before = contents(folder)
    work = OnTerminal("fuse", folder, "--force")
    assert work.read_until(STAGES["fuse"])
    assert work.interrupted() == 130
    assert contents(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", WORK)
def test_progress_is_for_terminals_and_a_pipe_gets_none(name: str, folder: Path) -> None:
    short = [each if each != "500" else "1" for each in command(name)]
    options = {"capture_output": True, "text": True, "check": False, "timeout": 120}
    ran = subprocess.run(short, cwd=folder, **options)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
