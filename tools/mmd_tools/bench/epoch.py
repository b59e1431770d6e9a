"""`mmd-tools bench epoch`: how much quicker is an epoch when the Mentor is asked once and what it said is read back?"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from mmd.artifact.load import ArtifactSet
    from mmd.training.engine import Engine
    from mmd.training.round import RoundData

CLASSES = 10
BATCH = 32
_SAMPLES = 96
_EPOCHS = 20
"""Of the round whose time is told with the asking in it: what `mmd-tools fuse` recommends is of this order."""
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block (Simonyan & Zisserman, arXiv:1409.1556, table 1, D)."""


@dataclass(frozen=True)
class EpochCase:
    """A Mentor of VGG-16's convolutions, of which a share of the channels is left, over a small Mentee."""

    size: int
    """Height and width of the images, three channels."""
    channel_share: float = 1.0
    mentee: tuple[str, ...] = ("conv 16 3", "relu", "pool 4", "conv 32 3", "relu", "pool 4", "flatten", "fc 64", "relu")

    @property
    def mentor_layers(self) -> tuple[str, ...]:
        blocks = [
            word
            for channels, count in _VGG16
            for word in (*[f"conv {int(channels * self.channel_share)} 3", "relu"] * count, "pool 2")
        ]
        return (*blocks, "flatten", "fc 512", "relu", "fc 512", "relu")


CASES = {
    "32": EpochCase(32),
    "64": EpochCase(64),
    "quick": EpochCase(32, channel_share=0.25),
}


@click.command("epoch", short_help="Time epochs with the Mentor cached and fused.")
@click.option(
    "--case",
    "names",
    type=click.Choice(list(CASES)),
    multiple=True,
    help="Repeatable. [default: 32 and 64, their size]",
)
@click.option("--quick", is_flag=True, help="A Mentor of a quarter of the channels, few steps.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the engine.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often they alternate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def epoch_command(names: tuple[str, ...], quick: bool, threads: int, rounds: int, as_json: bool) -> None:
    """Time the steps of an epoch with the Mentor cached and with the Mentor fused, turn by turn in one run.

    Random weights: they cost what trained ones do. Reading samples and cache is part of the time.
    """
    chosen = names or (("quick",) if quick else ("32", "64"))
    rows = [measure(name, CASES[name], threads=threads, rounds=rounds, steps=1 if quick else 2) for name in chosen]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(
            f"{row['case']}: an epoch is {row['ratio']:.1f} times quicker cached ({row['lowest']:.1f} to "
            f"{row['highest']:.1f}), a round of {_EPOCHS} epochs with the asking {row['ratio_of_round']:.1f} times; "
            f"{row['cache_bytes_a_row']} bytes a row; Mentor {row['mentor_parameters']:,} parameters, "
            f"Mentee {row['mentee_parameters']:,}"
        )


def measure(name: str, case: EpochCase, *, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Alternate both variants for `rounds` turns of `steps` steps, after one of each; return the row of the table."""
    clock = time.process_time if threads == 1 else time.perf_counter
    with (
        tempfile.TemporaryDirectory(prefix="mmd-epoch-") as folder,
        _arena(case, Path(folder), threads, clock) as arena,
    ):
        variants = (arena.cached, arena.fused)
        for runner in variants:
            runner.take(1)
            runner.seconds.clear()
        for _ in range(rounds):
            for runner in variants:
                runner.take(steps)
        cached, fused = ([1000 * seconds for seconds in runner.seconds] for runner in variants)
        ratios = [theirs / ours for ours, theirs in zip(cached, fused, strict=True)]
        in_round = _EPOCHS * _SAMPLES / BATCH
        asking = 1000 * arena.asking_seconds
        return {
            "case": name,
            "input": [3, case.size, case.size],
            "batch": BATCH,
            "threads": threads,
            "clock": "cpu" if threads == 1 else "wall",
            "mentor_parameters": arena.parameters["mentor"],
            "mentee_parameters": arena.parameters["mentee"],
            "ms_cached": round(statistics.median(cached), 2),
            "ms_fused": round(statistics.median(fused), 2),
            "ratio": round(statistics.median(ratios), 2),
            "lowest": round(min(ratios), 2),
            "highest": round(max(ratios), 2),
            "ms_asking_a_row": round(asking / _SAMPLES, 2),
            "ratio_of_round": round(
                in_round * statistics.median(fused) / (in_round * statistics.median(cached) + asking), 2
            ),
            "cache_bytes_a_row": arena.row_bytes,
            "ms": {"cached": [round(ms, 2) for ms in cached], "fused": [round(ms, 2) for ms in fused]},
        }


@dataclass
class _Runner:
    """One variant, at some step."""

    engine: "Engine"
    data: "RoundData"
    clock: Any
    seconds: list[float] = field(default_factory=list)
    """A step, one entry a turn."""
    step: int = 0

    def take(self, steps: int) -> None:
        import numpy as np

        from mmd.training.batches import BatchOrder
        from mmd.training.engine import LossWeights

        order = BatchOrder(seed=0, own=self.data.own, replay=0, batch_size=BATCH, replay_per_batch=0)
        weights = LossWeights(alpha=1.0, betas=(0.3,), gamma=1.0, temperature=4.0)
        began = self.clock()
        for _ in range(steps):
            batch = self.data.batch(order.indices(self.step), order.views_of(self.step))
            assert np.isfinite(self.engine.step(batch, weights, 1e-4).total)
            self.step += 1
        self.seconds.append((self.clock() - began) / steps)


@dataclass(frozen=True)
class _Arena:
    cached: _Runner
    fused: _Runner
    asking_seconds: float
    row_bytes: int
    parameters: dict[str, int]


@contextmanager
def _arena(case: EpochCase, folder: Path, threads: int, clock: Any) -> Iterator[_Arena]:
    """Fuse the set, store samples, and open both variants as the trainer does."""
    from mmd.training.engines import open_engine
    from mmd.training.mentor_outputs import target_bytes
    from mmd.training.round_data import open_round_data

    artifact_set, parameters = _fused_set(case, folder)
    samples_db = folder / "samples.db"
    ids = _store_samples(artifact_set, samples_db)
    with ExitStack() as stack:
        runners, seconds = {}, {}
        variants: tuple[Literal["cached", "fused"], ...] = ("cached", "fused")
        for variant in variants:
            plan = _plan(artifact_set, ids, variant, threads)
            began = clock()
            opened = open_round_data(plan, artifact_set, samples_db, on_decision=lambda *_: None)
            seconds[variant] = clock() - began
            stack.enter_context(closing(opened))
            engine = open_engine(artifact_set, name="portable", variant=variant, threads=threads)
            runners[variant] = _Runner(engine, opened.data, clock)
        yield _Arena(
            runners["cached"], runners["fused"], seconds["cached"], target_bytes(artifact_set.manifest), parameters
        )


def _fused_set(case: EpochCase, folder: Path) -> "tuple[ArtifactSet, dict[str, int]]":
    import numpy as np
    import onnx

    from mmd.artifact.load import open_set
    from mmd_tools.fuse import fuse
    from mmd_tools.nets import NetRecipe, build_net, parameter_count
    from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe

    shape = (3, case.size, case.size)
    counts = {}
    for role, layers in (("mentor", case.mentor_layers), ("mentee", case.mentee)):
        model = build_net(NetRecipe(layers=(*layers, f"fc {CLASSES}"), input=shape, seed=1))
        counts[role] = parameter_count(model)
        onnx.save(model, folder / f"{role}.onnx")
    rng = np.random.default_rng(0)
    anchor = rng.integers(0, 256, (16, *shape), np.uint8)
    np.savez(folder / "anchor.npz", inputs=anchor, labels=np.arange(16) % CLASSES)
    recipe = Recipe(
        name="epoch",
        licence="none",
        classes=tuple(map(str, range(CLASSES))),
        anchor=str(folder / "anchor.npz"),
        input=InputRecipe(scale=1 / 255),
        # The last features of either: [512] and [64], brought together by a projector.
        probe=(ProbeRecipe(mentor="relu15", mentee="relu3", weight=1.0),),
    )
    fuse(folder / "mentor.onnx", folder / "mentee.onnx", recipe, folder / "set")
    return open_set(folder / "set"), counts


def _store_samples(artifact_set: "ArtifactSet", path: Path) -> tuple[str, ...]:
    import numpy as np

    from mmd.samples.form import SampleForm
    from mmd.samples.records import NewSample
    from mmd.samples.store import SampleStore

    spec, classes = artifact_set.manifest.input, artifact_set.manifest.classes
    rng = np.random.default_rng(1)
    with SampleStore.create(path, SampleForm("image", spec.shape, classes), holdout_fraction=0.0) as store:
        store.add(
            NewSample(rng.integers(0, 256, spec.shape, np.uint8).tobytes(), classes[number % CLASSES], f"{number}")
            for number in range(_SAMPLES)
        )
        return tuple(store.training_ids())


def _plan(artifact_set: "ArtifactSet", ids: tuple[str, ...], variant: Literal["cached", "fused"], threads: int) -> Any:
    from mmd.config import Config, TrainingConfig
    from mmd.training.plan import make_plan

    training = TrainingConfig(variant=variant, threads=threads, batch_size=BATCH, replay=0.0)
    labels = {identifier: place % CLASSES for place, identifier in enumerate(ids)}
    return make_plan(
        1, artifact_set, Config(training=training), labels=labels, holdout_ids=(), start_generation=0, now=0.0
    )
