"""How long does a step take on each engine? Both engines in one process, turn by turn, on one artifact set.

`python -m mmd_tools.lowering.measure SET --batch 64`
"""

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np

from mmd.artifact.load import ArtifactSet, open_set
from mmd.training.engine import Batch, Engine, LossWeights
from mmd.training.engines import ENGINE_NAMES, open_engine

_WARM_UP = 2


@click.command()
@click.argument("artifact_set", metavar="SET", type=click.Path(path_type=Path, file_okay=False))
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=12, show_default=True, help="Timed steps of each engine.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def measure(artifact_set: Path, batch: int, steps: int, threads: int) -> None:
    """Print the CPU milliseconds of every step and their ratio, as JSON.

    CPU time, not wall time: with one thread it is the same on a quiet machine, and steadier on a busy one.
    """
    opened = open_set(artifact_set)
    given = random_batch(opened, batch)
    weights = LossWeights(1.0, (1.0,) * len(opened.manifest.probes), 1.0, opened.manifest.loss.temperature)
    engines = {name: open_engine(opened, name=name, threads=threads) for name in ENGINE_NAMES}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(_WARM_UP + steps):
        for name, engine in engines.items():
            elapsed = _cpu_ms(engine, given, weights)
            if turn >= _WARM_UP:
                times[name].append(round(elapsed, 2))
    portable, training = (statistics.median(times[name]) for name in ENGINE_NAMES)
    figures = {"batch": batch, "threads": threads, "ratio_to_ort_training": round(portable / training, 3)}
    click.echo(json.dumps({**figures, "medians": {"portable": portable, "ort_training": training}, "cpu_ms": times}))


def random_batch(artifact_set: ArtifactSet, size: int) -> Batch:
    """Noise in the shapes of the set, the Mentor's outputs included."""
    manifest = artifact_set.manifest
    generator = np.random.default_rng(0)
    shapes = {probe.mentor: probe.mentor_shape for probe in manifest.probes}
    shapes[manifest.mentor_logits] = (len(manifest.classes),)
    return Batch(
        generator.standard_normal((size, *manifest.input.shape)).astype(np.float32),
        generator.integers(0, len(manifest.classes), size),
        {name: generator.standard_normal((size, *shape)).astype(np.float32) for name, shape in shapes.items()},
    )


def _cpu_ms(engine: Engine, batch: Batch, weights: LossWeights) -> float:
    start = time.process_time()
    engine.step(batch, weights, 1e-4)
    return (time.process_time() - start) * 1e3


if __name__ == "__main__":
    measure()
