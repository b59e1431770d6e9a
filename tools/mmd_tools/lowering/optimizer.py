"""How does a step change the parameters? AdamW in plain ONNX, and the same AdamW for onnxruntime-training."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from mmd.artifact.manifest import OptimizerSpec
from mmd_tools.lowering.emitter import Emitter

IR_VERSION = 10
"""The newest that onnxruntime 1.19.2 reads."""

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


def adamw(e: Emitter, parameter: str, gradient: str, spec: OptimizerSpec) -> None:
    """p' = p (1 - lr wd) - (lr / c1) m1' / (sqrt(m2' / c2) + eps), c = 1 - beta^step (arXiv:1711.05101).

    m1' = beta1 m1 + (1 - beta1) g; m2' = beta2 m2 + (1 - beta2) g^2.
    """
    first = _moving_average(e, f"{parameter}.m1", gradient, spec.beta1)
    second = _moving_average(e, f"{parameter}.m2", e.emit("Mul", gradient, gradient), spec.beta2)
    root = e.emit("Sqrt", e.emit("Div", second, _correction(e, spec.beta2)))
    direction = e.emit("Div", first, e.emit("Add", root, e.constant(spec.epsilon)))
    rate = e.emit("Div", "learning_rate", _correction(e, spec.beta1))
    decayed = parameter
    if spec.weight_decay:
        shrink = e.emit("Mul", "learning_rate", e.constant(spec.weight_decay))
        decayed = e.emit("Mul", parameter, e.emit("Sub", e.constant(1.0), shrink))
    e.emit("Sub", decayed, e.emit("Mul", direction, rate), to=f"{parameter}.next")


def _moving_average(e: Emitter, moment: str, value: str, beta: float) -> str:
    kept = e.emit("Mul", moment, e.constant(beta))
    # 1 - beta of the rounded beta, as onnxruntime has it.
    added = e.emit("Mul", value, e.constant(np.float32(1) - np.float32(beta)))
    return e.emit("Add", kept, added, to=f"{moment}.next")


def _correction(e: Emitter, beta: float) -> str:
    """1 - beta^step, in double precision: for beta = 0.999 the difference loses four digits in single."""
    power = e.emit("Pow", e.constant(float(np.float32(beta)), np.float64), e.cast("step", TensorProto.DOUBLE))
    return e.cast(e.emit("Sub", e.constant(1.0, np.float64), power))
