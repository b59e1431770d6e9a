"""What goes into a training graph and what comes out, by name? Shared by both engines."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import Manifest, OptimizerSpec
from mmd.errors import ArtifactRefused, TrainingFailed
from mmd.training.engine import Batch, Floats, LossWeights, StepLosses, TrainingState

Variant = Literal["cached", "fused"]
Feed = dict[str, NDArray[np.generic]]

TOTAL, LABEL, SOFT, HINT = "loss", "loss.label", "loss.soft", "loss.hint."


def initial_state(artifact_set: ArtifactSet) -> TrainingState:
    """Return the state at step 0: the shipped parameters, and moments of zero."""
    manifest = artifact_set.manifest
    values = load_file(artifact_set.path(manifest.graphs.parameters))
    return checked_state(manifest, start_state(values, manifest.optimizer))


def start_state(parameters: Mapping[str, Floats], optimizer: OptimizerSpec) -> TrainingState:
    """Return the state of a training that begins: no steps, and as many moments, all zero, as the optimizer keeps."""
    first, second = (
        {name: np.zeros_like(value) for name, value in parameters.items()} if optimizer.moments > number else {}
        for number in range(2)
    )
    return TrainingState(step=0, parameters=parameters, first_moments=first, second_moments=second)


def checked_state(manifest: Manifest, state: TrainingState) -> TrainingState:
    """Return a copy of `state`, contiguous float32 in the manifest's order.

    Raises `ArtifactRefused` naming the first tensor that is missing, unknown or of another shape.
    """
    if state.step < 0:
        raise ArtifactRefused(f"The training state counts {state.step} steps; it does not come from this product.")
    kinds = ("parameter", "first moment", "second moment")
    groups = (state.parameters, state.first_moments, state.second_moments)
    checked = [
        _checked_tensors(manifest, kind, tensors, is_kept=number <= manifest.optimizer.moments)
        for number, (kind, tensors) in enumerate(zip(kinds, groups, strict=True))
    ]
    return TrainingState(state.step, *checked)


def _checked_tensors(
    manifest: Manifest, kind: str, tensors: Mapping[str, Floats], *, is_kept: bool
) -> dict[str, Floats]:
    wanted = manifest.parameters if is_kept else ()
    unknown = set(tensors).difference(parameter.name for parameter in wanted)
    if unknown:
        raise ArtifactRefused(f"The {kind} {min(unknown)} belongs to another artifact set than {manifest.name}.")
    checked = {}
    for parameter in wanted:
        tensor = tensors.get(parameter.name)
        if tensor is None:
            raise ArtifactRefused(f"The {kind} {parameter.name} is missing; the state is of another artifact set.")
        if tuple(tensor.shape) != parameter.shape:
            raise ArtifactRefused(
                f"The {kind} {parameter.name} has shape {list(tensor.shape)}; "
                f"the artifact set {manifest.name} wants {list(parameter.shape)}."
            )
        checked[parameter.name] = np.array(tensor, np.float32, order="C")
    return checked


def batch_feed(manifest: Manifest, batch: Batch, weights: LossWeights, wanted: Iterable[str]) -> Feed:
    """Return the arrays of `batch` and `weights` for those inputs of a graph that are among `wanted`."""
    feed: Feed = {
        manifest.input.name: np.ascontiguousarray(batch.inputs, np.float32),
        "labels": np.ascontiguousarray(batch.labels, np.int64),
        "alpha": np.array(weights.alpha, np.float32),
        "gamma": np.array(weights.gamma, np.float32),
        "temperature": np.array(weights.temperature, np.float32),
        **{f"beta.{index}": np.array(beta, np.float32) for index, beta in enumerate(weights.betas)},
    }
    feed |= {name: np.ascontiguousarray(value, np.float32) for name, value in (batch.mentor or {}).items()}
    feed |= {
        spec.name: np.ones((len(batch.inputs), *spec.shape), np.float32)
        for spec in manifest.dropout
        if spec.name not in (batch.masks or {})
    }
    feed |= {name: np.ascontiguousarray(value, np.float32) for name, value in (batch.masks or {}).items()}
    missing = [name for name in wanted if name not in feed]
    if missing:
        raise TrainingFailed(
            f"The batch has no {missing[0]}, which the training graph of {manifest.name} takes; "
            "give the Mentor's outputs and one beta a probe pair, or use the fused variant."
        )
    return {name: feed[name] for name in wanted}


def loss_names(outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the outputs that are losses, each once, the total first."""
    return tuple(dict.fromkeys(name for name in outputs if name == TOTAL or name.startswith(f"{TOTAL}.")))


def step_losses(manifest: Manifest, values: Mapping[str, float]) -> StepLosses:
    """Collect the terms; a term that the graph does not have is 0."""
    hints = tuple(values.get(f"{HINT}{index}", 0.0) for index in range(len(manifest.probes)))
    return StepLosses(values[TOTAL], values.get(LABEL, 0.0), values.get(SOFT, 0.0), hints)
