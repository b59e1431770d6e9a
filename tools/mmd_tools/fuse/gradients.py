"""How are onnxruntime's training files made from a forward graph, without importing torch?"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import UsageError
from mmd_tools.fuse import edit
from mmd_tools.fuse.graphs import ForwardGraph
from mmd_tools.fuse.scopes import join
from mmd_tools.lowering.optimizer import set_optimizer_attributes


@dataclass(frozen=True)
class TrainingFiles:
    """What `generate_artifacts` makes of one forward graph."""

    training: onnx.ModelProto
    eval: onnx.ModelProto
    optimizer: onnx.ModelProto
    checkpoint: bytes


def training_build_is_installed() -> bool:
    """True where the gradient builder of onnxruntime-training is importable."""
    import onnxruntime

    state = importlib.import_module("onnxruntime.capi._pybind_state")
    return hasattr(state, "GradientGraphBuilder") and (Path(onnxruntime.__file__).parent / "training").is_dir()


def training_files(forward: ForwardGraph, optimizer: OptimizerSpec) -> TrainingFiles:
    """Build the gradient graph, the evaluation graph, the optimizer and the checkpoint of `forward`.

    Raises `UsageError` where onnxruntime-training is not installed.
    """
    if not training_build_is_installed():
        raise UsageError(
            "`fuse` needs onnxruntime-training-cpu 1.19.2, which exists for x86-64 Linux and Python 3.11 or 3.12; "
            "build the set there and copy it to the board."
        )
    with training_package() as (artifacts, onnxblock), tempfile.TemporaryDirectory() as folder:

        class AllOutputs(onnxblock.Block):  # type: ignore[misc, name-defined]
            """The graph already ends in its losses; the first one is where the gradient starts."""

            def build(self, *names: str) -> tuple[str, ...]:
                return names

        artifacts.generate_artifacts(
            forward.model,
            requires_grad=list(forward.trainable),
            frozen_params=[],
            loss=AllOutputs(),
            optimizer=artifacts.OptimType.AdamW if optimizer.kind == "adamw" else artifacts.OptimType.SGD,
            artifact_directory=folder,
        )
        read = {name: onnx.load(Path(folder) / f"{name}_model.onnx") for name in ("training", "eval", "optimizer")}
        checkpoint = (Path(folder) / "checkpoint").read_bytes()
    for name in ("training", "eval"):
        join(read[name], forward.stops)
    set_optimizer_attributes(read["optimizer"], optimizer)
    _name_outputs(read["optimizer"])
    return TrainingFiles(read["training"], read["eval"], read["optimizer"], checkpoint)


def _name_outputs(model: onnx.ModelProto) -> None:
    """Drop the counter from the names that the tools made up: the same networks shall give the same bytes."""
    for node in model.graph.node:
        node.name = node.op_type
    new_names = {value.name: "updated" for value in model.graph.output}
    edit.rename(model, new_names)


@contextlib.contextmanager
def training_package() -> Iterator[tuple[Any, Any]]:
    """Give `onnxruntime.training`'s two modules; its own `__init__`, which imports torch, never runs."""
    import onnxruntime

    name = "onnxruntime.training"
    if name not in sys.modules:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(onnxruntime.__file__).parent / "training")]
        bare = importlib.util.module_from_spec(spec)
        sys.modules[name] = bare
    with _silenced_standard_error():
        yield importlib.import_module(f"{name}.artifacts"), importlib.import_module(f"{name}.onnxblock")


@contextlib.contextmanager
def _silenced_standard_error() -> Iterator[None]:
    """Send file descriptor 2 nowhere: the gradient builder logs every pass there, whatever severity is asked for.

    Failures are not lost, they arrive as exceptions.
    """
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
