"""Do the parts of `make arm-test` that need no emulation do what the whole relies on?"""

import json
import os
import platform
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from tests.arm import arm_test, machine, parity
from tests.arm.board import Board
from tests.arm.case import run_step
from tests.arm.roots import board_requirements

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def write_result(path: Path, **changed: object) -> Path:
    """Write what `mmd-tools step` would write, with some of it changed."""
    arrays = {"losses": [2.0, 1.0], "grad.w": [1.0, -4.0], "param.w": [0.5, 1e-9], "m1.w": [0.0, 0.0]}
    np.savez(path, **{name: np.array(changed.get(name, value)) for name, value in arrays.items()})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_a_board_requires_the_stock_runtime_and_never_the_training_build(python: str) -> None:
    declared = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {requirement.split(">")[0] for requirement in board_requirements(declared, python)}
    assert {"onnxruntime", "numpy", "onnx"} <= names
    assert not [name for name in names if "training" in name]


def test_the_same_results_do_not_differ(tmp_path: Path) -> None:
    difference = parity.compare(write_result(tmp_path / "a.npz"), write_result(tmp_path / "b.npz"))
    assert difference == parity.Difference(0.0, 0.0, 0.0)
    assert difference.is_tolerated


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("losses", [2.0, 1.0002], "losses"),
        ("grad.w", [1.0, -4.01], "gradients"),
        ("param.w", [0.501, 1e-9], "parameters"),
        ("param.w", [float("nan"), 1e-9], "parameters"),
    ],
)
def test_a_difference_beyond_the_tolerance_fails(tmp_path: Path, name: str, value: list[float], where: str) -> None:
    difference = parity.compare(write_result(tmp_path / "a.npz"), write_result(tmp_path / "b.npz", **{name: value}))
    assert not difference.is_tolerated
    assert not getattr(difference, where) <= 1e-4


def test_results_with_different_names_are_not_compared(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", losses=np.zeros(2))
    with pytest.raises(ValueError, match="different names"):
        parity.compare(write_result(tmp_path / "a.npz"), tmp_path / "other.npz")


def write_answers(path: Path, *answers: tuple[str, float]) -> Path:
    told = [{"label": label, "probabilities": {"0": p, "1": 1 - p}} for label, p in answers]
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def test_int8_answers_agree_by_label_and_nearly_by_probability(tmp_path: Path) -> None:
    reference = write_answers(tmp_path / "a.json", ("0", 0.9), ("1", 0.3))
    near = parity.compare_answers(reference, write_answers(tmp_path / "b.json", ("0", 0.88), ("1", 0.3)))
    assert (near.same, near.total, near.is_tolerated) == (2, 2, True)
    assert near.furthest == pytest.approx(0.02)
    assert not parity.compare_answers(
        reference, write_answers(tmp_path / "c.json", ("0", 0.9), ("0", 0.3))
    ).is_tolerated
    assert not parity.compare_answers(
        reference, write_answers(tmp_path / "d.json", ("0", 0.7), ("1", 0.3))
    ).is_tolerated
    empty = write_answers(tmp_path / "e.json")
    assert not parity.compare_answers(empty, empty).is_tolerated


def test_a_plain_user_is_told_why_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["arm_test.py"])
    assert arm_test.main() == 0
    assert capsys.readouterr().out.startswith("skipped: only root")


def test_a_machine_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(machine.CannotRun, match="apt-get"):
        machine.prepare()


def test_a_command_that_fails_fails_its_step_with_its_last_words(tmp_path: Path) -> None:
    board = Board(product=tmp_path, work=tmp_path)
    shown = run_step(lambda there: there.python("-c", "import sys; sys.exit('mmd: no such set')"), board)
    assert not shown["passed"]
    assert shown["said"].endswith("ended with 1: mmd: no such set")


def test_an_answer_that_is_not_json_fails_its_step(tmp_path: Path) -> None:
    from tests.arm.case import status

    (tmp_path / "mmd").mkdir()
    (tmp_path / "mmd/__main__.py").write_text("print('hello')")
    shown = run_step(status, Board(product=tmp_path, work=tmp_path))
    assert not shown["passed"]
    assert "JSONDecodeError" in shown["said"]
