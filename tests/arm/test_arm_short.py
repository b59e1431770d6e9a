"""Does an emulated board take the training steps of x86? What fits into every suite of `make arm-test`."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_emulated_board_takes_the_steps_of_x86_without_the_training_build() -> None:
    command = [sys.executable, "-m", "tests.arm.arm_test", "--short"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=400, check=False)
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout.strip().removeprefix("skipped: "))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trixie    cortex-a72  steps" in done.stdout
