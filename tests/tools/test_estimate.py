"""Does a step take as much memory as the manifest says?"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmd.artifact.manifest import OptimizerSpec
from mmd_tools.bench.cases import CASES
from mmd_tools.bench.contenders import fuse_case
from mmd_tools.fuse.arena import Arena
from mmd_tools.fuse.gradients import training_build_is_installed

DIGITS = Path(__file__).parents[2] / "artifacts" / "digits" / "set"
SIZES = [(case.name, batch) for case in CASES.values() for batch in case.batches]
WAYS = {
    "plain": ["--plain"],
    "blocked": [],
    "plain in quarters": ["--plain", "--in-quarters"],
    "ort_training": ["--engine", "ort_training"],
}
needs_training_build = pytest.mark.skipif(
    not training_build_is_installed(), reason="sets can only be fused with onnxruntime-training"
)


def ratio(artifact_set: Path, *options: str) -> float:
    """Estimated by measured, in a process of its own."""
    command = [sys.executable, "-m", "mmd_tools.bench.step_memory", str(artifact_set), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return float(json.loads(done.stdout)["ratio"])


def case_set(name: str, batch: int, kind: str, folder: Path) -> Path:
    return fuse_case(CASES[name], batch, folder, OptimizerSpec(kind=kind))


def within_a_quarter(value: float) -> bool:
    return 0.75 <= value <= 1.25


@needs_training_build
@pytest.mark.parametrize(("name", "batch", "kind"), [("a", 16, "adamw"), ("c", 32, "sgd"), ("d", 32, "adamw")])
def test_the_estimate_of_a_step_is_within_a_quarter_of_what_it_takes(
    name: str, batch: int, kind: str, tmp_path: Path
) -> None:
    artifact_set = case_set(name, batch, kind, tmp_path)
    assert within_a_quarter(ratio(artifact_set, "--plain"))
    assert within_a_quarter(ratio(artifact_set))
    assert within_a_quarter(ratio(artifact_set, "--plain", "--in-quarters"))


def test_the_estimate_of_the_shipped_set_is_within_a_quarter() -> None:
    assert within_a_quarter(ratio(DIGITS, "--plain"))


@needs_training_build
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize(("name", "batch"), SIZES)
def test_the_estimate_holds_for_every_engine_optimizer_and_layout(
    name: str, batch: int, kind: str, tmp_path: Path
) -> None:
    artifact_set = case_set(name, batch, kind, tmp_path)
    ratios = {way: ratio(artifact_set, *options) for way, options in WAYS.items()}
    assert all(within_a_quarter(value) for value in ratios.values()), ratios


def test_the_arena_grows_by_doubling_regions_and_uses_the_smallest_chunk_that_fits() -> None:
    arena = Arena()
    large, _, small, _ = (arena.allocate(size) for size in (1000, 256, 300, 256))
    arena.release(large)
    arena.release(small)
    before = arena.touched
    assert arena.allocate(200) is small
    assert arena.touched == before
    arena.allocate(3 << 20)
    assert arena.touched == before + (3 << 20)


def test_neighbours_that_are_free_become_one_chunk() -> None:
    arena = Arena()
    first, second, _ = (arena.allocate(512) for _ in range(3))
    before = arena.touched
    arena.release(first)
    arena.release(second)
    arena.allocate(1024)
    assert arena.touched == before
