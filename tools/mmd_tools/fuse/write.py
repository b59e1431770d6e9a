"""What does the folder of an artifact set hold, file by file? See `artifacts/FORMAT.md`."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as MissingKernel
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from mmd.artifact.load import file_sha256
from mmd.artifact.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Graphs,
    InputSpec,
    LossSpec,
    Manifest,
    Parameter,
    Point,
    ProbePair,
    TrainingDefaults,
    encode_manifest,
    manifest_path,
)
from mmd.training.batch_last import in_batch_last
from mmd.training.blocked import in_blocks
from mmd.training.step_graph import usable_block
from mmd_tools.audio.features import preprocess_graph
from mmd_tools.audio.resample import resample_graph
from mmd_tools.fuse.edit import Array
from mmd_tools.fuse.estimate import BLOCKED, parts_bytes, step_bytes
from mmd_tools.fuse.gradients import TrainingFiles
from mmd_tools.fuse.graphs import mentor_name
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.probes import Probe
from mmd_tools.fuse.weights import MENTOR_DATA, SharedWeights
from mmd_tools.recipe import Recipe

_PACKAGES = ("mmd-daemon", "onnx", "onnxruntime-training-cpu", "numpy")


@dataclass(frozen=True)
class SetContent:
    """Everything that goes into the folder, still in memory."""

    mentee: Network
    mentor: Network | None
    probes: tuple[Probe, ...]
    mentor_model: onnx.ModelProto | None
    fused: TrainingFiles
    training_cached: onnx.ModelProto
    portable_fused: onnx.ModelProto
    portable_cached: onnx.ModelProto
    start: Mapping[str, Array]


def write_set(
    folder: Path,
    content: SetContent,
    recipe: Recipe,
    anchor: tuple[NDArray[np.generic], NDArray[np.int64]],
    memory: dict[str, int],
) -> None:
    """Write every file of the set into `folder`, the manifest last. `memory` is what `step_memory` says."""
    from safetensors.numpy import save

    graphs = Graphs()
    shared = SharedWeights()
    if content.mentor_model is not None:
        shared.take(content.mentor_model)
        onnx.save(content.mentor_model, folder / graphs.mentor)
    if shared.data:
        (folder / MENTOR_DATA).write_bytes(shared.data)
    for name, model in (
        (graphs.inference, content.mentee.model),
        (graphs.training, content.fused.training),
        (graphs.eval, content.fused.eval),
        (graphs.optimizer, content.fused.optimizer),
        (graphs.training_cached, content.training_cached),
        (graphs.portable_fused, content.portable_fused),
        (graphs.portable_cached, content.portable_cached),
    ):
        if name != graphs.inference:
            shared.point(model)
        onnx.save(model, folder / name)
    (folder / graphs.checkpoint).write_bytes(content.fused.checkpoint)
    start = {name: np.ascontiguousarray(value) for name, value in content.start.items()}
    (folder / graphs.parameters).write_bytes(save(start))
    np.savez_compressed(folder / graphs.anchor, inputs=anchor[0], labels=anchor[1])
    if recipe.input.audio is not None:
        onnx.save(resample_graph(recipe.input.audio.length), folder / graphs.resample)
        onnx.save(preprocess_graph(recipe.input.audio), folder / graphs.preprocess)
    files = {
        path.name: FileRecord(sha256=file_sha256(path), size=path.stat().st_size) for path in sorted(folder.iterdir())
    }
    manifest_path(folder).write_bytes(encode_manifest(_manifest(content, recipe, files, memory)))


def step_memory(content: SetContent, recipe: Recipe) -> dict[str, int]:
    """Return the peak of a step by engine and variant, and for the portable one of a step in four parts."""
    batch, moments = recipe.training.batch_size, recipe.optimizer.moments
    held = {"parameter_bytes": sum(value.nbytes for value in content.start.values()), "moments": moments}
    portable = {"portable": content.portable_cached, "portable.fused": content.portable_fused}
    training = {"ort_training": content.training_cached, "ort_training.fused": content.fused.training}
    if content.mentor is None:
        del portable["portable.fused"], training["ort_training.fused"]
    quarter = -(-batch // 4)
    found = (
        {key: step_bytes(_on_boards(model, batch), batch, engine="portable", **held) for key, model in portable.items()}
        | _blocked_bytes(content.portable_cached, batch, held)
        | {key: size for key, model in training.items() if (size := _training_bytes(model, batch, held)) is not None}
        | {
            f"{key}.in_quarters": parts_bytes(_on_boards(model, quarter), quarter, **held)
            for key, model in portable.items()
        }
    )
    if content.mentor is None:
        # There is nothing to fuse in: both variants are one graph.
        found |= {_fused_key(key): found[key] for key in (*portable, *training, "portable.in_quarters") if key in found}
    return found


def _fused_key(key: str) -> str:
    engine, _, rest = key.partition(".")
    return f"{engine}.fused.{rest}" if rest else f"{engine}.fused"


def _on_boards(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return what a board makes of a step graph where its runtime has no operators in blocks."""
    try:
        return in_batch_last(model, batch)
    except onnx.shape_inference.InferenceError:
        return model


def _blocked_bytes(model: onnx.ModelProto, batch: int, held: dict[str, int]) -> dict[str, int]:
    """Return the peak of a step in blocks, under its key; nothing where this machine would not take one."""
    block = usable_block(batch)
    if block is None:
        return {}
    try:
        return {BLOCKED: step_bytes(in_blocks(model, batch, block), batch, engine=BLOCKED, **held)}
    except onnx.shape_inference.InferenceError:
        return {}


def _training_bytes(model: onnx.ModelProto, batch: int, held: dict[str, int]) -> int | None:
    """Return the peak of onnxruntime-training's step; `None` where it lacks a kernel (an LSTM both ways)."""
    try:
        return step_bytes(model, batch, engine="ort_training", **held)
    except (MissingKernel, RuntimeException):
        return None


def _manifest(content: SetContent, recipe: Recipe, files: dict[str, FileRecord], memory: dict[str, int]) -> Manifest:
    mentee, mentor = content.mentee, content.mentor
    return Manifest(
        format=FORMAT_VERSION,
        name=recipe.name,
        description=recipe.description,
        licence=recipe.licence,
        input=input_spec(mentee, recipe),
        classes=recipe.classes,
        logits=mentee.logits,
        mentor_logits=mentor_name(mentor.logits, mentor) if mentor is not None else "",
        probes=tuple(_probe_pair(probe) for probe in content.probes),
        loss=LossSpec(
            temperature=recipe.loss.temperature,
            hint_weights=tuple(probe.asked.weight for probe in content.probes),
            schedules=recipe.loss.all_schedules,
            default_schedule=recipe.loss.default_schedule,
            labelled_schedule=recipe.loss.labelled_schedule,
            hint_schedules=_hint_schedules(content.probes),
            soft=recipe.loss.soft,
            label_smoothing=recipe.loss.label_smoothing,
            tckd_weight=recipe.loss.tckd_weight,
            nckd_weight=recipe.loss.nckd_weight,
        ),
        optimizer=recipe.optimizer,
        training=TrainingDefaults(
            epochs=recipe.training.epochs,
            batch_size=recipe.training.batch_size,
            learning_rate=recipe.training.learning_rate,
            replay=recipe.training.replay,
            views=recipe.training.views,
        ),
        parameters=tuple(
            Parameter(
                name=name,
                shape=tuple(int(size) for size in value.shape),
                role="mentee" if name in mentee.weights else "projector",
            )
            for name, value in content.start.items()
        ),
        graphs=Graphs(),
        files=files,
        memory_estimate_bytes=memory,
        versions={"python": platform.python_version(), **_versions()},
        spare_classes=recipe.spare_classes,
        dropout=mentee.dropouts,
        augmentation=recipe.augmentation,
    )


def _hint_schedules(probes: tuple[Probe, ...]) -> tuple[tuple[Point, ...], ...]:
    """Return every pair's own factor; nothing at all where no pair has one."""
    return tuple(probe.schedule for probe in probes) if any(probe.schedule for probe in probes) else ()


def _probe_pair(probe: Probe) -> ProbePair:
    return ProbePair(
        mentor=probe.target,
        mentee=probe.mentee,
        mentor_shape=probe.target_shape,
        mentee_shape=probe.mentee_layer.shape,
        loss=probe.loss,
        projector=probe.projector,
        mentor_layer=f"mentor/{probe.mentor}",
        width=probe.width,
        scope=probe.asked.scope,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def input_spec(mentee: Network, recipe: Recipe) -> InputSpec:
    audio = recipe.input.audio
    return InputSpec(
        name=mentee.input,
        kind=recipe.input.kind,
        shape=mentee.input_shape,
        scale=recipe.input.scale,
        mean=recipe.input.mean,
        std=recipe.input.std,
        stored=(audio.length,) if audio is not None else (),
        rate_hz=audio.rate_hz if audio is not None else recipe.input.rate_hz,
    )
