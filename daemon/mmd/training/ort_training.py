"""How does onnxruntime-training train the same set? Its own gradient and optimizer graphs, in two plain sessions."""

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import only_what_is_asked, open_session
from mmd.errors import ArtifactRefused
from mmd.training.engine import Batch, Floats, LossWeights, StepLosses, TrainingState
from mmd.training.feeds import Feed, Variant, batch_feed, checked_state, initial_state, loss_names, step_losses
from mmd.training.optimizer import apply_gradients, clip_factor

_BUFFER = "_grad.accumulation.buffer"
_RESET = "lazy_reset_grad"
_DEADLY = b"AveragePoolGrad"
"""onnxruntime-training 1.19.2 divides by zero in this operator's kernel, which ends the process."""


def is_installed() -> bool:
    """Tell whether the training build of onnxruntime is what is installed here."""
    return importlib.util.find_spec("onnxruntime.training") is not None


class OrtTrainingEngine:
    """Runs `training_model.onnx` (or its cached variant) and `optimizer_model.onnx`.

    The gradient graph adds into the gradient buffers it is fed, and the optimizer changes parameters and moments in
    place; this engine owns all of them, so that its state is the portable engine's.
    """

    def __init__(
        self,
        artifact_set: ArtifactSet,
        variant: Variant = "cached",
        threads: int = 1,
        optimizer: OptimizerSpec | None = None,
    ) -> None:
        if not is_installed():
            raise ArtifactRefused(
                "The ort_training engine needs onnxruntime-training-cpu (x86-64 Linux, Python below 3.13), "
                "which is not installed here; use the portable engine."
            )
        graphs = artifact_set.manifest.graphs
        self._manifest = artifact_set.manifest
        path = artifact_set.path(graphs.training_cached if variant == "cached" else graphs.training)
        if _DEADLY in path.read_bytes():
            raise ArtifactRefused(
                f"onnxruntime-training crashes on the AveragePool layers in {path.name}; use the portable engine."
            )
        self._training = open_session(path, threads=threads, plans_memory=False)
        self._spec = optimizer or self._manifest.optimizer
        # Its SGD knows neither momentum nor decay, and its AdamW has the decay as a constant: then numpy steps.
        is_its_own = self._spec.kind == "adamw" and self._spec.weight_decay == self._manifest.optimizer.weight_decay
        self._optimizer = open_session(artifact_set.path(graphs.optimizer), threads=threads) if is_its_own else None
        self._names = tuple(parameter.name for parameter in self._manifest.parameters)
        self._losses = loss_names(output.name for output in self._training.get_outputs())
        own = {*self._names, *(name + _BUFFER for name in self._names), _RESET}
        self._batch_inputs = tuple(i.name for i in self._training.get_inputs() if i.name not in own)
        self._gradients = {p.name: np.zeros(p.shape, np.float32) for p in self._manifest.parameters}
        self._state = initial_state(artifact_set)

    @property
    def name(self) -> str:
        return "ort_training"

    def step(self, batch: Batch, weights: LossWeights, learning_rate: float) -> StepLosses:
        """Take one optimizer step and return the losses before it."""
        losses = self._backward(batch, weights, self._gradients)
        self.apply(self._gradients, learning_rate)
        return losses

    def apply(self, gradients: Mapping[str, Floats], learning_rate: float) -> None:
        """Take one optimizer step along gradients from elsewhere."""
        state, steps = self._state, self._state.step + 1
        if self._optimizer is None:
            apply_gradients(self._spec, state, gradients, learning_rate)
        else:
            factor = clip_factor(self._spec, gradients)
            feed = {
                "learning_rate": np.array([learning_rate], np.float32),
                "step": np.array([steps], np.int64),
                "params": [state.parameters[name] for name in self._names],
                "gradients": [gradients[name] * factor for name in self._names],
                "first_order_moments": [state.first_moments[name] for name in self._names],
                "second_order_moments": [state.second_moments[name] for name in self._names],
            }
            self._optimizer.run(None, feed)
        self._state = TrainingState(steps, state.parameters, state.first_moments, state.second_moments)

    def gradients(self, batch: Batch, weights: LossWeights) -> tuple[StepLosses, dict[str, Floats]]:
        """Return the losses and the gradient of the total for every parameter, changing nothing."""
        gradients = {name: np.zeros_like(buffer) for name, buffer in self._gradients.items()}
        return self._backward(batch, weights, gradients), gradients

    def losses(self, batch: Batch, weights: LossWeights) -> StepLosses:
        """Return the losses, changing nothing."""
        feed = self._feed(batch, weights, self._gradients)
        results = self._training.run(self._losses, feed, only_what_is_asked())
        return self._collected(results)

    def state(self) -> TrainingState:
        """Return a copy of the state."""
        return checked_state(self._manifest, self._state)

    def load(self, state: TrainingState) -> None:
        """Replace the state. Raises `ArtifactRefused` when a name or shape is not this set's."""
        self._state = checked_state(self._manifest, state)

    def _backward(self, batch: Batch, weights: LossWeights, gradients: dict[str, Floats]) -> StepLosses:
        """Run forward and backward; `gradients` is overwritten."""
        names = [output.name for output in self._training.get_outputs()]
        results = dict(zip(names, self._training.run(None, self._feed(batch, weights, gradients)), strict=True))
        return self._collected([results[name] for name in self._losses])

    def _feed(self, batch: Batch, weights: LossWeights, gradients: dict[str, Floats]) -> Feed:
        feed = batch_feed(self._manifest, batch, weights, self._batch_inputs)
        feed |= self._state.parameters
        feed |= {name + _BUFFER: buffer for name, buffer in gradients.items()}
        # True: overwrite the buffers instead of adding to them. The outputs that only order it need not be fetched.
        feed[_RESET] = np.array([True])
        return feed

    def _collected(self, results: Sequence[Floats]) -> StepLosses:
        return step_losses(self._manifest, dict(zip(self._losses, map(float, results), strict=True)))
