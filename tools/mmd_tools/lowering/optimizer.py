"""How does a step change the parameters? AdamW and SGD in plain ONNX, and the same AdamW for onnxruntime-training."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from mmd.artifact.manifest import OptimizerSpec
from mmd_tools.lowering.emitter import Emitter

IR_VERSION = 10
"""The newest that onnxruntime 1.19.2 reads."""

RATE, DECAY, CLIP, STEP = "learning_rate", "weight_decay", "clip_norm", "step"
"""Inputs of the step graph: float32 [], but `step`, int64 [], which is 1 for the first step."""

_CLIP_EPSILON = 1e-6
"""Keeps the quotient finite where every gradient is zero; PyTorch's `clip_grad_norm_` has the same."""

_DECAY_FIRST = 0
"""`adam_mode` of onnxruntime's AdamWOptimizer: the decay is applied before the update, as in the paper and PyTorch."""


def set_optimizer_attributes(optimizer_model: onnx.ModelProto, spec: OptimizerSpec) -> None:
    """Give onnxruntime-training's optimizer graph the set's constants, and an IR version that it can read."""
    wanted = {
        "adam_mode": _DECAY_FIRST,
        "alpha": spec.beta1,
        "beta": spec.beta2,
        "correct_bias": 1,
        "epsilon": spec.epsilon,
        "weight_decay": spec.weight_decay,
    }
    for node in optimizer_model.graph.node:
        if node.op_type == "AdamWOptimizer":
            del node.attribute[:]
            node.attribute.extend(helper.make_attribute(name, value) for name, value in wanted.items())
    optimizer_model.ir_version = min(optimizer_model.ir_version, IR_VERSION)


def clip_factor(e: Emitter, gradients: Sequence[str]) -> str:
    """min(1, clip_norm / |all gradients|); 1 where `clip_norm` is 0 or less, or infinite."""
    squares = [e.emit("ReduceSumSquare", gradient, keepdims=0) for gradient in gradients]
    length = e.emit("Sqrt", squares[0] if len(squares) == 1 else e.emit("Sum", *squares))
    share = e.emit("Div", CLIP, e.emit("Add", length, e.constant(_CLIP_EPSILON)))
    one = e.constant(1.0)
    return e.emit("Where", e.emit("Greater", CLIP, e.constant(0.0)), e.emit("Min", share, one), one)


def adamw(e: Emitter, parameter: str, gradient: str, factor: str, spec: OptimizerSpec) -> None:
    """p' = p (1 - lr wd) - (lr / c1) m1' / (sqrt(m2' / c2) + eps), c = 1 - beta^step (arXiv:1711.05101).

    m1' = beta1 m1 + (1 - beta1) f g; m2' = beta2 m2 + (1 - beta2) f^2 g^2, f the clip factor.
    """
    shape = e.sizes(parameter)
    square, square_factor = e.emit("Mul", gradient, gradient), e.emit("Mul", factor, factor)
    first = _moving_average(e, f"{parameter}.m1", gradient, factor, spec.beta1, shape)
    second = _moving_average(e, f"{parameter}.m2", square, square_factor, spec.beta2, shape)
    # Numerator and denominator times sqrt(c2): a pass over the moment less.
    corrected = e.emit("Sqrt", _correction(e, spec.beta2))
    epsilon = _scalar(e, e.emit("Mul", e.constant(spec.epsilon), corrected), shape)
    direction = e.emit("Div", first, e.emit("Add", e.emit("Sqrt", second), epsilon))
    rate = e.emit("Div", e.emit("Mul", RATE, corrected), _correction(e, spec.beta1))
    kept = e.emit("Sub", e.constant(1.0), e.emit("Mul", RATE, DECAY))
    decayed = e.emit("Mul", parameter, _scalar(e, kept, shape))
    e.emit("Sub", decayed, e.emit("Mul", direction, _scalar(e, rate, shape)), to=f"{parameter}.next")


def sgd(e: Emitter, parameter: str, gradient: str, factor: str, spec: OptimizerSpec) -> None:
    """d = f g + wd p; m1' = momentum m1 + d; p' = p - lr m1', or p - lr (d + momentum m1') for Nesterov's.

    As PyTorch has it, the decay is part of the gradient; without momentum there is no m1, and p' = p - lr d.
    """
    shape = e.sizes(parameter)
    clipped = e.emit("Mul", gradient, _scalar(e, factor, shape))
    direction = e.emit("Add", clipped, e.emit("Mul", parameter, _scalar(e, DECAY, shape)))
    if spec.moments:
        momentum = _scalar(e, e.constant(spec.momentum), shape)
        moment = e.emit("Mul", f"{parameter}.m1", momentum)
        moment = e.emit("Add", moment, direction, to=f"{parameter}.m1.next")
        direction = e.emit("Add", direction, e.emit("Mul", moment, momentum)) if spec.nesterov else moment
    e.emit("Sub", parameter, e.emit("Mul", direction, _scalar(e, RATE, shape)), to=f"{parameter}.next")


OPTIMIZERS: dict[str, Callable[[Emitter, str, str, str, OptimizerSpec], None]] = {"adamw": adamw, "sgd": sgd}


def moment_ends(spec: OptimizerSpec) -> tuple[str, ...]:
    """Return how the names of an optimizer's moments end."""
    return (".m1", ".m2")[: spec.moments]


def _scalar(e: Emitter, scalar: str, shape: tuple[int, ...]) -> str:
    """Give a scalar as many axes as its partner: onnxruntime goes value by value over [..., 1] and a bare one."""
    return e.reshape(scalar, *[1] * len(shape)) if shape[-1:] == (1,) else scalar


def _moving_average(e: Emitter, moment: str, value: str, factor: str, beta: float, shape: tuple[int, ...]) -> str:
    kept = e.emit("Mul", moment, _scalar(e, e.constant(beta), shape))
    # 1 - beta of the rounded beta, as onnxruntime has it. The clip factor is a scalar: folded in here it costs nothing.
    share = e.emit("Mul", e.constant(np.float32(1) - np.float32(beta)), factor)
    return e.emit("Add", kept, e.emit("Mul", value, _scalar(e, share, shape)), to=f"{moment}.next")


def _correction(e: Emitter, beta: float) -> str:
    """1 - beta^step, in double precision: for beta = 0.999 the difference loses four digits in single."""
    power = e.emit("Pow", e.constant(float(np.float32(beta)), np.float64), e.cast(STEP, TensorProto.DOUBLE))
    return e.cast(e.emit("Sub", e.constant(1.0, np.float64), power))
