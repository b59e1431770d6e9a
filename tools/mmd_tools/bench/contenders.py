"""Who takes part in `bench step`? Each contender is a child process that takes steps when told to."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import MmdError
from mmd_tools.bench.cases import Case, make_weights, onnx_model

ENGINES = ("portable", "ort_training")
LAYOUTS = ("contiguous", "channels_last")
LEARNING_RATE = 1e-4
_HERE = Path(__file__).parent
_DATA = "data.npz"


@dataclass
class Contender:
    """One child process, and what it has measured so far."""

    name: str
    process: "subprocess.Popen[str]"
    ms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.ms)

    def take(self, steps: int, warm_up: int) -> None:
        """Take steps and keep the times of those after the warm-up. Raises `MmdError` when the child has died."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{warm_up + steps}\n")
            self.process.stdin.flush()
            report = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise MmdError(f"The contender {self.name} ended; its own message is above.") from error
        self.ms += report["ms"][warm_up:]
        self.losses += report["losses"]
        self.peak_mib = report["peak_mib"]


def python_has_torch(python: str) -> bool:
    """Tell whether the interpreter `python` can import PyTorch."""
    command = [python, "-c", "import importlib.util as u; raise SystemExit(u.find_spec('torch') is None)"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def contenders(
    case: Case, batch: int, threads: int, *, clock: str, python: dict[str, str], folder: Path, is_plain: bool
) -> Iterator[list[Contender]]:
    """Start every contender of `case`; those whose interpreter `python` lacks are left out. They end with the block."""
    job = _prepare(case, batch, folder) | {
        "threads": threads,
        "clock": clock,
        "learning_rate": LEARNING_RATE,
        "is_plain": is_plain,
    }
    with ExitStack() as stack:
        yield [
            Contender(name, stack.enter_context(_child(name, job | extra, python[kind], folder)))
            for name, kind, extra in _entries(case)
            if kind in python
        ]


def _entries(case: Case) -> list[tuple[str, str, dict[str, str]]]:
    """Name, which interpreter, and what is special about the job."""
    layouts = LAYOUTS if len(case.shape) == 3 else LAYOUTS[:1]
    torch = [(f"pytorch {layout}", "pytorch", {"layout": layout}) for layout in layouts]
    return [("portable", "portable", {}), *torch, ("ort_training", "ort_training", {})]


def fuse_case(case: Case, batch: int, folder: Path, optimizer: OptimizerSpec) -> Path:
    """Fuse the case's artifact set into `folder` and return where it lies; its batch lies beside it."""
    from mmd_tools.fuse import fuse
    from mmd_tools.recipe import InputRecipe, Recipe, TrainingRecipe

    weights = make_weights(case)
    mentee, anchor = folder / "mentee.onnx", folder / "anchor.npz"
    mentee.write_bytes(onnx_model(case, weights).SerializeToString())
    generator = np.random.default_rng(1)
    inputs = generator.standard_normal((batch, *case.shape)).astype(np.float32)
    labels = generator.integers(0, case.classes, batch)
    np.savez(folder / _DATA, inputs=inputs, labels=labels, **weights)  # type: ignore[arg-type]
    np.savez(anchor, inputs=inputs[:1], labels=np.zeros(1, np.int64))
    recipe = Recipe(
        name=f"bench-{case.name}",
        licence="MIT",
        classes=tuple(str(index) for index in range(case.classes)),
        anchor=str(anchor),
        input=InputRecipe(kind="tensor"),
        optimizer=optimizer,
        training=TrainingRecipe(batch_size=batch),
    )
    fuse(None, mentee, recipe, folder / "set")
    return folder / "set"


def _prepare(case: Case, batch: int, folder: Path) -> dict[str, Any]:
    optimizer = OptimizerSpec()
    artifact_set = fuse_case(case, batch, folder, optimizer)
    layers = [asdict(layer) for layer in case.layers]
    data = str(folder / _DATA)
    return {"set": str(artifact_set), "data": data, "layers": layers, "weight_decay": optimizer.weight_decay}


@contextmanager
def _child(name: str, job: dict[str, Any], python: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    path = folder / f"{name.replace(' ', '_')}.json"
    path.write_text(json.dumps(job | {"contender": name}))
    script = ["-m", "mmd_tools.bench.engine_worker"] if name in ENGINES else [str(_HERE / "torch_worker.py")]
    # Another interpreter may not have this package installed: it finds it where this one did.
    roots = dict.fromkeys(str(Path(sys.modules[package].__path__[0]).parent) for package in ("mmd", "mmd_tools"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots)}
    with subprocess.Popen(
        [python, *script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()
