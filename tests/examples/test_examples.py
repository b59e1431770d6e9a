"""Every example runs as its first lines say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.serving import serving
from tests.support import run_mmd

from mmd.artifact.shipped import shipped_owner

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    assert run_mmd("init", state=tmp_path / "state").code == 0
    return tmp_path / "state"


@pytest.fixture
def pictures() -> list[str]:
    return [str(next(folder.glob("*.png"))) for folder in sorted(shipped_owner().iterdir())[:3]]


def run(*command: object) -> list[str]:
    """Return the lines that the example prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_the_examples_are_those_tested_here() -> None:
    named = ["ask_the_server.py", "ask_the_server.sh", "hold_a_predictor.py"]
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_file()) == named


def test_a_program_that_holds_a_predictor_names_what_it_sees(state: Path, pictures: list[str]) -> None:
    lines = run(sys.executable, FOLDER / "hold_a_predictor.py", state, *pictures)
    assert [line.split(": ")[0] for line in lines] == pictures
    assert all(line.endswith("generation 0") for line in lines)


def test_a_program_without_packages_gets_the_same_answers(state: Path, pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("not a picture")
    with serving(state):
        asked = run(sys.executable, FOLDER / "ask_the_server.py", state / "serve.sock", *pictures, tmp_path / "no.png")
    assert asked[:-1] == run(sys.executable, FOLDER / "hold_a_predictor.py", state, *pictures)
    assert "is not a PNG or JPEG image" in asked[-1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
def test_a_shell_gets_the_model_and_an_answer(state: Path, pictures: list[str]) -> None:
    with serving(state):
        model, answer = run("sh", FOLDER / "ask_the_server.sh", state / "serve.sock", pictures[0])
    assert json.loads(model)["generation"] == 0
    assert json.loads(answer)["path"] == Path(pictures[0]).name
