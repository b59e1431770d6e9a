"""Do the engines compute what they should? `mmd-tools step`: the door for checking the mathematics from outside."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmd.artifact.load import ArtifactSet
    from mmd.artifact.manifest import Manifest
    from mmd.errors import InputRefused
    from mmd.training.engine import Batch, Engine, LossWeights, StepLosses

    Arrays = dict[str, NDArray[np.generic]]


@click.command("step", short_help="Run optimizer steps on given batches.")
@click.argument("artifact_set", metavar="SET", type=click.Path(path_type=Path, file_okay=False))
@click.option("--engine", type=click.Choice(["portable", "ort_training"]), required=True, help="Runs the step.")
@click.option(
    "--variant",
    type=click.Choice(["cached", "fused"]),
    default="cached",
    show_default=True,
    help="Of the step: with the Mentor in it, or its answers given.",
)
@click.option("--batches", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Arrays to step on.")
@click.option("--steps", type=click.IntRange(min=1), required=True, help="Number of optimizer steps.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the engine.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the results go.")
def step(artifact_set: Path, engine: str, variant: str, batches: Path, steps: int, threads: int, out: Path) -> None:
    """Run optimizer steps from the set's shipped parameters on given batches.

    \b
    --batches is an .npz with
      inputs          float, [S, B, *shape] or [B, *shape], normalised as the networks take them
      labels          integer, [S, B] or [B]; -1 where there is none
      alpha, gamma, temperature, learning_rate, beta.0, beta.1, ...
                      optional, one number or one a step [N]; else the start of the set's
                      default schedule and its recommended learning rate
      the Mentor's outputs by their names in mentor.onnx, [S, B, ...] or [B, ...]
                      optional, cached variant only; else mentor.onnx is run on the inputs
      dropout.0, ...  the masks, [S, B, ...] or [B, ...]; optional, else nothing is dropped
    Step i (from 0) takes batch i modulo S.

    \b
    --out gets an .npz with
      losses          float64 [N], the total before each step; loss.label, loss.soft,
                      loss.hint.0, ... its terms before their coefficients
      grad.NAME       gradient of the total at the first step
      param.NAME      parameters after the last step; m1.NAME, m2.NAME the optimizer's moments
    """
    from mmd.artifact.load import open_set
    from mmd.training.engines import open_engine
    from mmd_tools.archive import read_archive
    from mmd_tools.destination import destination

    place = destination(out)
    opened = open_set(artifact_set)
    given = read_archive(batches, lambda reason: _refused(f"cannot read {batches}: {reason}"))
    plan = _Plan(opened, given, is_cached=variant == "cached")
    runner = open_engine(opened, name=engine, variant="cached" if variant == "cached" else "fused", threads=threads)
    _write(place, _run(runner, plan, steps))


def _run(engine: Engine, plan: _Plan, steps: int) -> Arrays:
    import numpy as np

    _, gradients = engine.gradients(plan.batch(0), plan.weights(0, steps))
    losses = [
        engine.step(plan.batch(i), plan.weights(i, steps), plan.number("learning_rate", i, steps)) for i in range(steps)
    ]
    state = engine.state()
    results: Arrays = {name: np.array(values, np.float64) for name, values in _columns(losses).items()}
    results |= {f"grad.{name}": value for name, value in gradients.items()}
    results |= {f"param.{name}": value for name, value in state.parameters.items()}
    results |= {f"m1.{name}": value for name, value in state.first_moments.items()}
    results |= {f"m2.{name}": value for name, value in state.second_moments.items()}
    return results


def _columns(losses: list[StepLosses]) -> dict[str, list[float]]:
    columns = {
        "losses": [entry.total for entry in losses],
        "loss.label": [entry.label for entry in losses],
        "loss.soft": [entry.soft for entry in losses],
    }
    for index in range(len(losses[0].hints)):
        columns[f"loss.hint.{index}"] = [entry.hints[index] for entry in losses]
    return columns


@dataclass
class _Plan:
    """Which batch and which coefficients each step takes."""

    artifact_set: ArtifactSet
    given: Arrays
    is_cached: bool

    def __post_init__(self) -> None:
        import numpy as np

        manifest = self.artifact_set.manifest
        shape = manifest.input.shape
        inputs = self._array("inputs", 1 + len(shape)).astype(np.float32)
        if inputs.shape[2:] != shape:
            raise _refused(f"`inputs` has shape {list(inputs.shape)}, not [S, B, {', '.join(map(str, shape))}]")
        labels = self._array("labels", 1)
        if labels.shape != inputs.shape[:2] or not np.issubdtype(labels.dtype, np.integer):
            raise _refused(f"`labels` is {labels.dtype} {list(labels.shape)}, not integers {list(inputs.shape[:2])}")
        outputs = len(manifest.classes) + manifest.spare_classes
        if labels.min() < -1 or labels.max() >= outputs:
            raise _refused(f"`labels` holds a label outside -1..{outputs - 1}")
        self._inputs, self._labels = inputs, labels.astype(np.int64)
        self._mentor = self._mentor_outputs(manifest) if self.is_cached else None
        self._masks = {
            spec.name: self._fitting(spec.name, spec.shape) for spec in manifest.dropout if spec.name in self.given
        }
        self._defaults = _default_numbers(manifest)

    def batch(self, index: int) -> Batch:
        from mmd.training.engine import Batch

        chosen = index % len(self._inputs)
        mentor = None
        if self._mentor is not None:
            mentor = {name: values[chosen % len(values)] for name, values in self._mentor.items()}
        masks = {name: values[chosen % len(values)] for name, values in self._masks.items()}
        return Batch(self._inputs[chosen], self._labels[chosen], mentor, masks)

    def weights(self, index: int, steps: int) -> LossWeights:
        from mmd.training.engine import LossWeights

        hints = range(len(self.artifact_set.manifest.probes))
        return LossWeights(
            alpha=self.number("alpha", index, steps),
            betas=tuple(self.number(f"beta.{hint}", index, steps) for hint in hints),
            gamma=self.number("gamma", index, steps),
            temperature=self.number("temperature", index, steps),
        )

    def number(self, name: str, index: int, steps: int) -> float:
        """Return the coefficient `name` of step `index`, given or the set's own."""
        if name not in self.given:
            return self._defaults[name]
        values = self._finite(name).reshape(-1)
        if len(values) not in (1, steps):
            raise _refused(f"`{name}` holds {len(values)} numbers; give one, or one a step ({steps})")
        return float(values[index % len(values)])

    def _array(self, name: str, rank: int) -> NDArray[Any]:
        """Return the array with a leading axis of batches, [S, B, ...]."""
        if name not in self.given:
            raise _refused(f"it has no array `{name}`")
        array = self._finite(name)
        if array.ndim not in (rank, rank + 1) or array.size == 0:
            raise _refused(f"`{name}` has shape {list(array.shape)}; {rank} or {rank + 1} axes are wanted, none empty")
        return array if array.ndim == rank + 1 else array[None]

    def _finite(self, name: str) -> NDArray[Any]:
        import numpy as np

        array: NDArray[Any] = self.given[name]
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            raise _refused(f"`{name}` holds something that is not a finite number")
        return array

    def _fitting(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the array [S, B, *shape]."""
        import numpy as np

        array = self._array(name, 1 + len(shape)).astype(np.float32)
        if array.shape[1:] != (self._inputs.shape[1], *shape):
            raise _refused(f"`{name}` has shape {list(array.shape)}, not [S, B, *{list(shape)}]")
        return array

    def _mentor_outputs(self, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
        """Return what the cached graph wants of the Mentor, given or computed, each [S, B, ...]."""
        import numpy as np

        from mmd.artifact.session import open_session

        if manifest.graphs.mentor not in manifest.files:
            return {}
        shapes = {probe.mentor: probe.mentor_shape for probe in manifest.probes}
        shapes[manifest.mentor_logits] = (len(manifest.classes),)
        outputs = {
            name: self._array(name, 1 + len(shape)).astype(np.float32)
            for name, shape in shapes.items()
            if name in self.given
        }
        absent = [name for name in shapes if name not in outputs]
        if absent:
            session = open_session(self.artifact_set.path(manifest.graphs.mentor))
            runs = [session.run(absent, {manifest.input.name: inputs}) for inputs in self._inputs]
            outputs |= {name: np.stack([run[i] for run in runs]) for i, name in enumerate(absent)}
        for name, shape in shapes.items():
            if outputs[name].shape[1:] != (self._inputs.shape[1], *shape):
                raise _refused(f"`{name}` has shape {list(outputs[name].shape)}, not [S, B, *{list(shape)}]")
        return outputs


def _default_numbers(manifest: Manifest) -> dict[str, float]:
    """The start of the default schedule."""
    from mmd.training.schedule import betas_at

    loss = manifest.loss
    schedule = loss.schedules[loss.default_schedule]
    numbers = {
        "alpha": schedule.alpha[0][1],
        "gamma": schedule.gamma[0][1],
        "temperature": loss.temperature,
        "learning_rate": manifest.training.learning_rate,
    }
    betas = betas_at(schedule, loss.hint_weights, loss.hint_schedules, progress=0.0)
    return numbers | {f"beta.{index}": beta for index, beta in enumerate(betas)}


def _write(path: Path, results: Arrays) -> None:
    import numpy as np

    from mmd import durable

    encoded = io.BytesIO()
    np.savez(encoded, **results)  # type: ignore[arg-type]
    durable.write_bytes(path, encoded.getvalue())


def _refused(what: str) -> InputRefused:
    from mmd.errors import InputRefused

    return InputRefused(f"The batches cannot be used: {what}; `mmd-tools step --help` says what is wanted.")
