"""By how much does a step make a process grow, and what did the manifest say? A process of its own tells.

`python -m mmd_tools.bench.step_memory SET`
"""

import ctypes
import json
from pathlib import Path

import click

from mmd.artifact.load import open_set
from mmd.training.engine import LossWeights
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.feeds import Variant
from mmd.training.micro_batches import MicroBatches
from mmd.training.portable import PortableEngine
from mmd.training.step_graph import usable_block
from mmd_tools.fuse.estimate import BLOCKED
from mmd_tools.lowering.measure import random_batch

_STEPS = 3


@click.command()
@click.argument("artifact_set", metavar="SET", type=click.Path(path_type=Path, file_okay=False))
@click.option("--engine", "name", type=click.Choice(ENGINE_NAMES), default="portable", show_default=True)
@click.option("--variant", type=click.Choice(["cached", "fused"]), default="cached", show_default=True)
@click.option("--in-quarters", is_flag=True, help="Take each batch in four parts.")
@click.option("--plain", "is_plain", is_flag=True, help="Without operators in channel blocks, as on ARM boards.")
def step_memory(artifact_set: Path, name: str, variant: Variant, in_quarters: bool, is_plain: bool) -> None:
    """Print what the first steps at the recommended batch take and what the manifest estimates, in bytes, as JSON.

    Measured is the growth of the resident memory, at most, from the open set on (Linux).
    """
    opened = open_set(artifact_set)
    size = opened.manifest.training.batch_size
    if is_plain:
        from mmd.training import blocks

        blocks.block_size = lambda: None  # type: ignore[assignment]
    engine = open_engine(opened, name=name, variant=variant)
    part = -(-size // 4) if in_quarters else size
    if isinstance(engine, PortableEngine):
        engine.prepare(part)
    taker = engine if part == size else MicroBatches(engine, opened.manifest, part)
    given = random_batch(opened, size)
    weights = LossWeights(1.0, (1.0,) * len(opened.manifest.probes), 1.0, opened.manifest.loss.temperature)
    # Opening a set takes more for a moment: give back what it left, and forget the peak so far.
    ctypes.CDLL(None).malloc_trim(0)
    before = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(_STEPS):
        taker.step(given, weights, 1e-4)
    measured = _status_bytes("VmHWM") - before
    estimates = opened.manifest.memory_estimate_bytes
    key = name + (".fused" if variant == "fused" else "") + (".in_quarters" if in_quarters else "")
    if key == "portable" and usable_block(size) is not None:
        # Sets made before have no estimate of their own for it.
        key = BLOCKED if BLOCKED in estimates else key
    estimated = estimates[key]
    click.echo(json.dumps({"measured": measured, "estimated": estimated, "ratio": round(estimated / measured, 3)}))


def _status_bytes(key: str) -> int:
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(words[words.index(f"{key}:") + 1]) * 1024


if __name__ == "__main__":
    step_memory()
