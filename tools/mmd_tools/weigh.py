"""What does a step of these networks cost? Fused into a folder that is thrown away, and taken here, one thread."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mmd.artifact.load import ArtifactSet, open_set
from mmd.training.engines import ENGINE_NAMES, open_engine
from mmd.training.mentor_outputs import output_shapes
from mmd_tools.fuse import fuse
from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.fuse.network import read_network
from mmd_tools.fuse.pairing import Likeness
from mmd_tools.recipe import InputRecipe, Recipe, TrainingRecipe
from mmd_tools.step_process import ProcessCost, noise, process_cost

_TIMED_STEPS = 7
_HALF_BYTES = 2


@dataclass(frozen=True)
class Weighed:
    """What a board would need."""

    batch: int
    step_bytes: dict[str, int]
    """Estimated peak of a step by engine; `ENGINE.fused` with the Mentor in the step."""
    step_ms: dict[str, float]
    """Processor time of a step here by engine, the Mentor's answers cached; the median of a few."""
    process: ProcessCost
    """Of one that opens the set and takes steps with the portable engine, measured."""
    cache_bytes_per_sample: int
    """What the Mentor's answers take for one sample and view; 0 without a Mentor."""
    set_bytes: int
    ranking: tuple[Likeness, ...] = ()
    """How alike the layers are, where the recipe lets the pairs be found."""


def weigh(
    mentee: Path,
    mentor: Path | None = None,
    recipe: Recipe | None = None,
    *,
    batch: int = 16,
    engines: tuple[str, ...] = ENGINE_NAMES,
    report: Callable[[str], None] = lambda stage: None,
) -> Weighed:
    """Fuse, measure, and leave nothing behind. Raises what `fuse` raises."""
    with tempfile.TemporaryDirectory(prefix="mmd-weigh-") as folder:
        recipe = recipe or _plain_recipe(mentee, Path(folder))
        recipe = msgspec.structs.replace(recipe, training=_of_batch(recipe.training, batch))
        ranking = fuse(mentor, mentee, recipe, Path(folder) / "set", report=report)
        artifact_set = open_set(Path(folder) / "set")
        report("taking steps")
        manifest = artifact_set.manifest
        shapes = output_shapes(manifest) if mentor is not None else {}
        here = engines if training_build_is_installed() else ("portable",)
        return Weighed(
            batch=batch,
            step_bytes=dict(manifest.memory_estimate_bytes),
            step_ms={name: _step_ms(artifact_set, name, batch) for name in here if name in engines},
            process=process_cost(Path(folder) / "set"),
            cache_bytes_per_sample=_HALF_BYTES * sum(int(np.prod(shape)) for shape in shapes.values()),
            set_bytes=sum(record.size for record in manifest.files.values()),
            ranking=ranking,
        )


def _of_batch(training: TrainingRecipe, batch: int) -> TrainingRecipe:
    return msgspec.structs.replace(training, batch_size=batch)


def _plain_recipe(mentee: Path, folder: Path) -> Recipe:
    """Return a recipe that fits the network: no probes, an anchor set of noise."""
    network = read_network(mentee, "mentee")
    inputs = np.random.default_rng(0).standard_normal((2, *network.input_shape)).astype(np.float32)
    np.savez(folder / "anchor.npz", inputs=inputs, labels=np.zeros(2, np.int64))
    return Recipe(
        name="weighed",
        licence="none",
        classes=tuple(map(str, range(network.classes))),
        anchor=str(folder / "anchor.npz"),
        input=InputRecipe(kind="tensor"),
    )


def _step_ms(artifact_set: ArtifactSet, engine_name: str, batch: int) -> float:
    engine = open_engine(artifact_set, name=engine_name, variant="cached", threads=1)
    fed, weights = noise(artifact_set, batch)
    times = []
    for _ in range(_TIMED_STEPS):
        start = time.process_time()
        engine.step(fed, weights, 1e-6)
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times[1:])
