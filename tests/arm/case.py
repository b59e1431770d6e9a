"""Does a board go all the way from `mmd init` to a better model? One case: prints a JSON line for each step.

`arm_test.py` starts it, in a mount namespace of its own when the board is emulated.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.arm import parity
from tests.arm.board import Board, StepFailed, entered

OWNER = "mmd/shipped/owner"
CONFIG = """\
[training]
preset = "adamant"
epochs = 8
checkpoint_every_steps = 10
"""
"""A short round that asks the Mentor about every sample: it is the arithmetic that is on trial here, not the recipe."""
INT8_CONFIG = """\
[training]
epochs = 8
[gate]
folds = 0
[promotion]
int8 = true
"""
"""The same without fold models: what is new is how a candidate is made, judged and served."""
PREDICTED_PER_CLASS = 2
OUT = "steps.npz"
"""What the steps with the Mentor's answers kept gave."""
INT8_OUT = "int8.json"
"""What the int8 model said about the shipped writer's digits."""
REFERENCE = "reference"
"""The folder of what x86 gave, under the same names."""


def installation(board: Board) -> str:
    """Every dependency is there, the training runtime is not."""
    script = Path(__file__).with_name("check_installation.py")
    shutil.copy(script, board.work)
    return board.python(board.work_there / script.name).strip()


def init(board: Board) -> str:
    """The shipped set is accepted: every hash holds."""
    said = board.mmd("init").strip()
    return _require("Installed" in said, said.split(" in ")[0])


def ingest(board: Board) -> str:
    """The shipped writer's digits are stored."""
    taken = json.loads(board.mmd("ingest", _owner(board), "--json"))
    said = f"stored {taken['stored']}, {taken['held_out']} held out"
    return _require(taken["stored"] > 0 and not taken["refused"], said)


def train(board: Board) -> str:
    """A round with the portable engine ends at the gate, in a promotion or in a refusal that says why."""
    done = json.loads(board.mmd("train", "--force", "--json"))
    verdict = done["verdict"] or {}
    figures = "{code}, {holdout_right_before} -> {holdout_right_after} of {holdout_total} held out, p {p_value:.2g}"
    is_judged = done["outcome"] in ("promoted", "rejected") and verdict["promoted"] == (done["outcome"] == "promoted")
    return _require(is_judged and done["reason"], f"{done['outcome']}: {figures.format_map(verdict)}")


def predict(board: Board) -> str:
    """The model that the gate chose answers."""
    folder = board.product / OWNER
    chosen = [path for each in sorted(folder.iterdir()) for path in sorted(each.glob("*.png"))[:PREDICTED_PER_CLASS]]
    there = [board.product_there / path.relative_to(board.product) for path in chosen]
    answers = [json.loads(line) for line in board.mmd("predict", "--json", *there).splitlines()]
    right = sum(Path(answer["path"]).parent.name == answer["label"] for answer in answers)
    generations = {answer["generation"] for answer in answers}
    said = f"{right} of {len(chosen)} right, generation {', '.join(map(str, generations))}"
    return _require(len(answers) == len(chosen) and generations == {_serving(board)}, said)


def status(board: Board) -> str:
    """The status names the portable engine and the model that serves."""
    shown = json.loads(board.mmd("status", "--json"))
    said = f"{shown['state']}, engine {shown['engine']}, generation {shown['model']['generation']}"
    return _require(shown["engine"] == "portable" and shown["verdict"] is not None, said)


def models(board: Board) -> str:
    """One model serves, and a promotion left the shipped one behind it."""
    listed: list[dict[str, Any]] = json.loads(board.mmd("models", "--json"))
    said = ", ".join(f"{each['generation']} {each['phase']}" for each in listed)
    return _require(sum(each["serves"] for each in listed) == 1, said)


def int8(board: Board) -> str:
    """A round of int8 candidates ends in a promotion, and its model answers as the one that x86 made."""
    (board.work / "int8.toml").write_text(INT8_CONFIG, encoding="utf-8")
    places = ("--state-dir", board.work_there / "int8", "--config", board.work_there / "int8.toml")
    board.mmd("init", *places)
    board.mmd("ingest", _owner(board), *places)
    done = json.loads(board.mmd("train", "--force", "--json", *places))
    (serving,) = [each for each in json.loads(board.mmd("models", "--json", *places)) if each["serves"]]
    is_served = done["outcome"] == "promoted" and serving["precision"] == "int8"
    _require(is_served, f"{done['outcome']}: {done['reason']} {serving['precision']} serves")
    answers = [json.loads(line) for line in board.mmd("predict", "--json", *places, _owner(board)).splitlines()]
    (board.work / INT8_OUT).write_text(json.dumps(answers), encoding="utf-8")
    right = sum(Path(answer["path"]).parent.name == answer["label"] for answer in answers)
    said = f"promoted, {right} of {len(answers)} right"
    if not board.is_emulated:
        return f"{said}: the reference"
    agreement = parity.compare_answers(board.work / REFERENCE / INT8_OUT, board.work / INT8_OUT)
    return _require(agreement.is_tolerated, f"{said}; {agreement}")


def steps(board: Board) -> str:
    """The same batches give the same training steps; the x86 board's own are what the others are compared with."""
    mine = _taken(board, "cached")
    if not board.is_emulated:
        return f"{parity.STEPS} steps: the reference"
    difference = parity.compare(board.work / REFERENCE / OUT, mine)
    return _require(difference.is_tolerated, f"{parity.STEPS} steps, from x86: {difference}")


def fused(board: Board) -> str:
    """Steps with the Mentor inside are those with its answers kept."""
    difference = parity.compare(board.work / OUT, _taken(board, "fused"))
    return _require(difference.is_tolerated, f"{parity.STEPS} steps, from those without the Mentor: {difference}")


def _taken(board: Board, variant: str) -> Path:
    """Take the steps and return where their results lie."""
    out = OUT if variant == "cached" else f"{variant}.npz"
    there, shipped = board.work_there, board.product_there / "mmd/shipped/set"
    files = ["--batches", there / "batches.npz", "--out", there / out]
    options = ["--engine", "portable", "--variant", variant, "--steps", parity.STEPS]
    board.python("-m", "mmd_tools.cli", "step", shipped, *options, *files)
    return board.work / out


STEPS: tuple[Callable[[Board], str], ...] = (
    installation,
    init,
    ingest,
    train,
    predict,
    status,
    models,
    int8,
    steps,
    fused,
)


def _owner(board: Board) -> Path:
    return board.product_there / OWNER


def _serving(board: Board) -> int:
    listed = json.loads(board.mmd("models", "--json"))
    return int(next(each["generation"] for each in listed if each["serves"]))


def _require(claim: object, said: str) -> str:
    if not claim:
        raise StepFailed(said)
    return said


def run_step(step: Callable[[Board], str], board: Board) -> dict[str, Any]:
    """Return what `arm_test.py` shows of a step."""
    started = time.monotonic()
    try:
        is_passed, said = True, step(board)
    except StepFailed as failure:
        is_passed, said = False, str(failure)
    except (KeyError, TypeError, ValueError, OSError) as error:
        # What a command printed is not what it promises to print.
        is_passed, said = False, f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    return {"step": step.__name__, "seconds": seconds, "passed": is_passed, "said": said}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.arm.case")
    for name in ("product", "work", "root", "dependencies", "bytecode"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--cpu", default="")
    parser.add_argument("--only", nargs="*", default=[step.__name__ for step in STEPS])
    places = vars(parser.parse_args())
    only = places.pop("only")
    board = Board(**places)
    (board.work / "mmd.toml").write_text(CONFIG, encoding="utf-8")
    with entered(board):
        for step in STEPS:
            if step.__name__ not in only or (step is installation and not board.is_emulated):
                continue
            print(json.dumps(run_step(step, board)), flush=True)


if __name__ == "__main__":
    main()
