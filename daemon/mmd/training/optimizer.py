"""How does a step along given gradients change the parameters? What the portable graphs compute, in numpy.

The portable graph takes its step itself; this is for the rest: gradients that were collected over micro-batches, and
what onnxruntime-training 1.19.2 has no operator for (SGD with momentum, clipping, a decay other than the set's).
"""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from mmd.artifact.manifest import OptimizerSpec
from mmd.training.engine import Floats, TrainingState

_CLIP_EPSILON = 1e-6
"""Keeps the quotient finite where every gradient is zero; PyTorch's `clip_grad_norm_` has the same."""


def chosen_optimizer(
    spec: OptimizerSpec, *, weight_decay: float | None = None, clip_norm: float | None = None
) -> OptimizerSpec:
    """Return the set's optimizer with what the owner chose otherwise."""
    return msgspec.structs.replace(
        spec,
        weight_decay=spec.weight_decay if weight_decay is None else weight_decay,
        clip_norm=spec.clip_norm if clip_norm is None else clip_norm,
    )


def is_clipping(spec: OptimizerSpec) -> bool:
    return 0 < spec.clip_norm < math.inf


def clip_factor(spec: OptimizerSpec, gradients: Mapping[str, Floats]) -> np.float32:
    """Return min(1, clip_norm / |all gradients|), or 1 where there is no limit."""
    if not is_clipping(spec):
        return np.float32(1)
    squares = sum(float(np.vdot(gradient, gradient)) for gradient in gradients.values())
    return np.float32(min(1.0, spec.clip_norm / (math.sqrt(squares) + _CLIP_EPSILON)))


def apply_gradients(
    spec: OptimizerSpec, state: TrainingState, gradients: Mapping[str, Floats], learning_rate: float
) -> None:
    """Change the tensors of `state` in place, as its step after `state.step` does."""
    factor, rate, step = clip_factor(spec, gradients), np.float32(learning_rate), state.step + 1
    for name, parameter in state.parameters.items():
        if spec.kind == "adamw":
            moments = state.first_moments[name], state.second_moments[name]
            _adamw(spec, parameter, moments, gradients[name] * factor, rate, step)
        else:
            _sgd(spec, parameter, state.first_moments.get(name), gradients[name] * factor, rate)


def _adamw(
    spec: OptimizerSpec,
    parameter: Floats,
    moments: tuple[Floats, Floats],
    gradient: Floats,
    rate: np.float32,
    step: int,
) -> None:
    corrections = []
    for moment, value, beta in zip(moments, (gradient, gradient * gradient), (spec.beta1, spec.beta2), strict=True):
        rounded = np.float32(beta)
        moment *= rounded
        moment += value * (np.float32(1) - rounded)
        corrections.append(np.float32(1.0 - float(rounded) ** step))
    parameter *= np.float32(1) - rate * np.float32(spec.weight_decay)
    direction = moments[0] / (np.sqrt(moments[1] / corrections[1]) + np.float32(spec.epsilon))
    parameter -= direction * (rate / corrections[0])


def _sgd(spec: OptimizerSpec, parameter: Floats, moment: Floats | None, gradient: Floats, rate: np.float32) -> None:
    direction = gradient + np.float32(spec.weight_decay) * parameter
    if moment is not None:
        momentum = np.float32(spec.momentum)
        moment *= momentum
        moment += direction
        direction = direction + momentum * moment if spec.nesterov else moment
    parameter -= rate * direction
