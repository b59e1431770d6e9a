"""Every example runs as its first lines say."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import run_mmd

from mmd.artifact.shipped import shipped_owner

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    assert run_mmd("init", state=tmp_path / "state").code == 0
    return tmp_path / "state"


def test_the_examples_are_those_tested_here() -> None:
    assert [example.name for example in EXAMPLES] == ["hold_a_predictor.py"]


def test_a_program_that_holds_a_predictor_names_what_it_sees(state: Path) -> None:
    pictures = [str(next(folder.glob("*.png"))) for folder in sorted(shipped_owner().iterdir())[:3]]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES[0]), str(state), *pictures],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == pictures
    assert all(line.endswith("generation 0") for line in lines)
