"""How does a board train? The lowered step graph on a stock onnxruntime, parameters and moments bound in place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import only_what_is_asked
from mmd.errors import ArtifactRefused
from mmd.training.engine import Batch, Floats, LossWeights, StepLosses, TrainingState
from mmd.training.feeds import Feed, Variant, batch_feed, checked_state, initial_state, loss_names, step_losses
from mmd.training.optimizer import apply_gradients, is_clipping
from mmd.training.step_graph import StepGraph

_STATE_SUFFIXES = ("", ".m1", ".m2")
_UPDATE = {"learning_rate", "weight_decay", "clip_norm", "step"}
"""Inputs of the optimizer. Sets that were fused early have the two in the middle as constants: no clipping."""


class PortableEngine:
    """Runs `portable_cached.onnx` or `portable_fused.onnx`: forward, backward and optimizer in one session.

    Parameters and moments live in two sets of buffers. A step reads one and writes the other, then they change
    places, so that nothing is allocated that grows. Equal states and batches end in equal bits.
    """

    def __init__(
        self,
        artifact_set: ArtifactSet,
        variant: Variant = "cached",
        threads: int = 1,
        optimizer: OptimizerSpec | None = None,
    ) -> None:
        graphs = artifact_set.manifest.graphs
        self._manifest = artifact_set.manifest
        path = artifact_set.path(graphs.portable_cached if variant == "cached" else graphs.portable_fused)
        self._graph = StepGraph(path, threads)
        self._names = tuple(parameter.name for parameter in self._manifest.parameters)
        self._losses = loss_names(self._graph.outputs)
        self._loss_values = {name: _buffer(np.zeros((), np.float32)) for name in self._losses}
        self._optimizer = optimizer or self._manifest.optimizer
        self._suffixes = _STATE_SUFFIXES[: 1 + self._optimizer.moments]
        held = {name + suffix for name in self._names for suffix in self._suffixes}
        fed = tuple(name for name in self._graph.inputs if name not in held)
        self._update_inputs = _UPDATE.intersection(fed)
        self._batch_inputs = tuple(name for name in fed if name not in _UPDATE)
        self._refuse_constants()
        self._buffers = [self._new_buffers(), self._new_buffers()]
        self._bound: tuple[Any, list[Any]] = (None, [])
        """The session of the last step, and its bindings by side."""
        self._side = 0
        self._steps = 0
        self._load(initial_state(artifact_set))

    @property
    def name(self) -> str:
        return "portable"

    def prepare(self, size: int) -> None:
        """Open the session for batches of `size` samples now, not at their first step."""
        self._graph.session(size)

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        """Take one optimizer step and return the losses before it."""
        # The arrays must outlive the run: the binding only points at them.
        feed = batch_feed(self._manifest, batch, weights, self._batch_inputs) | self._update_feed(learning_rate)
        session, binding = self._binding(len(batch.inputs))
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        session.run_with_iobinding(binding, only_what_is_asked())
        self._side = 1 - self._side
        self._steps += 1
        values = {name: float(value.numpy()) for name, value in self._loss_values.items()}
        return step_losses(self._manifest, values)

    def gradients(self, batch: Batch, weights: LossWeights) -> tuple[StepLosses, dict[str, Floats]]:
        """Return the losses and the gradient of the total for every parameter, changing nothing."""
        losses, *gradients = self._look(batch, weights, [f"{name}.grad" for name in self._names])
        return losses, dict(zip(self._names, gradients, strict=True))

    def losses(self, batch: Batch, weights: LossWeights) -> StepLosses:
        """Return the losses, changing nothing."""
        losses, *_ = self._look(batch, weights, [])
        return losses

    def apply(self, gradients: Mapping[str, Floats], learning_rate: float) -> None:
        """Take one optimizer step along gradients from elsewhere."""
        state = self.state()
        apply_gradients(self._optimizer, state, gradients, learning_rate)
        self._load(replace(state, step=state.step + 1))

    def _look(self, batch: Batch, weights: LossWeights, more: Sequence[str]) -> tuple[StepLosses, *tuple[Floats, ...]]:
        """Return the losses and `more` outputs of the graph, computing nothing else."""
        feed = batch_feed(self._manifest, batch, weights, self._batch_inputs) | self._update_feed(0.0)
        session = self._graph.session(len(batch.inputs))
        binding = session.io_binding()
        for name, buffer in self._buffers[self._side].items():
            binding.bind_ortvalue_input(name, buffer)
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for name in (*self._losses, *more):
            binding.bind_output(name)
        session.run_with_iobinding(binding, only_what_is_asked())
        results = binding.copy_outputs_to_cpu()
        values = {name: float(value) for name, value in zip(self._losses, results, strict=False)}
        return step_losses(self._manifest, values), *results[len(self._losses) :]

    def _update_feed(self, learning_rate: float) -> Feed:
        feed: Feed = {
            "learning_rate": np.array(learning_rate, np.float32),
            "weight_decay": np.array(self._optimizer.weight_decay, np.float32),
            "clip_norm": np.array(self._optimizer.clip_norm, np.float32),
            "step": np.array(self._steps + 1, np.int64),
        }
        return {name: value for name, value in feed.items() if name in self._update_inputs}

    def _refuse_constants(self) -> None:
        """Raise `ArtifactRefused` where a set holds as a constant what is asked to be another number."""
        asked, own = self._optimizer, self._manifest.optimizer
        if "weight_decay" not in self._update_inputs and asked.weight_decay != own.weight_decay:
            raise ArtifactRefused(
                f"The artifact set {self._manifest.name} holds its weight decay as a constant; leave "
                "training.weight_decay out, or build the set again with `mmd-tools fuse`."
            )
        if "clip_norm" not in self._update_inputs and is_clipping(asked):
            raise ArtifactRefused(
                f"The artifact set {self._manifest.name} cannot clip gradients; leave training.clip_norm out, or build "
                "the set again with `mmd-tools fuse`."
            )

    def state(self) -> TrainingState:
        """Return a copy of the state."""
        current = self._buffers[self._side]
        parameters, first, second = (
            {name: np.array(current[name + suffix].numpy()) for name in self._names if suffix in self._suffixes}
            for suffix in _STATE_SUFFIXES
        )
        return TrainingState(self._steps, parameters, first, second)

    def load(self, state: TrainingState) -> None:
        """Replace the state. Raises `ArtifactRefused` when a name or shape is not this set's."""
        self._load(checked_state(self._manifest, state))

    def _load(self, state: TrainingState) -> None:
        current = self._buffers[self._side]
        tensors = (state.parameters, state.first_moments, state.second_moments)
        for suffix, values in zip(self._suffixes, tensors, strict=False):
            for name in self._names:
                current[name + suffix].update_inplace(values[name])
        self._steps = state.step

    def _new_buffers(self) -> dict[str, Any]:
        return {
            parameter.name + suffix: _buffer(np.zeros(parameter.shape, np.float32))
            for parameter in self._manifest.parameters
            for suffix in self._suffixes
        }

    def _binding(self, batch: int) -> tuple[Any, Any]:
        """Return the session for `batch` samples, and its binding of the side that the step reads."""
        session = self._graph.session(batch)
        if self._bound[0] is not session:
            self._bound = (session, [self._bind(session, 0), self._bind(session, 1)])
        return session, self._bound[1][self._side]

    def _bind(self, session: Any, side: int) -> Any:
        """Bind one set of buffers as what the step reads and the other as what it writes."""
        binding = session.io_binding()
        for name, buffer in self._buffers[side].items():
            binding.bind_ortvalue_input(name, buffer)
        for name, buffer in self._buffers[1 - side].items():
            binding.bind_ortvalue_output(f"{name}.next", buffer)
        for name, value in self._loss_values.items():
            binding.bind_ortvalue_output(name, value)
        return binding


def _buffer(array: Floats) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(array)
