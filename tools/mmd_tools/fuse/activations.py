"""Which activations are said in operators that have gradients? One rule an operator."""

import numpy as np

from mmd_tools.fuse import edit
from mmd_tools.fuse.steps import Steps

_SELU_ALPHA, _SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
"""ONNX's defaults, from Klambauer et al., arXiv:1706.02515."""


def hard_sigmoid(s: Steps) -> None:
    """max(0, min(1, alpha x + beta))"""
    _clipped_line(s, edit.number(s.node, "alpha", 0.2), edit.number(s.node, "beta", 0.5), last=True)


def hard_swish(s: Steps) -> None:
    """x max(0, min(1, x / 6 + 1/2))"""
    s.emit("Mul", s.x, _clipped_line(s, 1 / 6, 0.5), last=True)


def elu(s: Steps) -> None:
    """max(x, 0) + alpha (exp(min(x, 0)) - 1)"""
    s.emit("Add", s.emit("Relu", s.x), _fall(s, edit.number(s.node, "alpha", 1.0)), last=True)


def celu(s: Steps) -> None:
    """max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)"""
    alpha = edit.number(s.node, "alpha", 1.0)
    s.emit("Add", s.emit("Relu", s.x), _fall(s, alpha, width=alpha), last=True)


def selu(s: Steps) -> None:
    """gamma (max(x, 0) + alpha (exp(min(x, 0)) - 1))"""
    bent = s.emit("Add", s.emit("Relu", s.x), _fall(s, edit.number(s.node, "alpha", _SELU_ALPHA)))
    s.emit("Mul", bent, s.scalar(edit.number(s.node, "gamma", _SELU_GAMMA)), last=True)


def thresholded_relu(s: Steps) -> None:
    """x where x > alpha, else 0"""
    is_above = s.emit("Greater", s.x, s.scalar(edit.number(s.node, "alpha", 1.0)))
    s.emit("Where", is_above, s.x, s.scalar(0.0), last=True)


def softplus(s: Steps) -> None:
    """max(x, 0) + log(1 + exp(-abs x))"""
    _softplus(s, last=True)


def softsign(s: Steps) -> None:
    """x / (1 + abs x)"""
    s.emit("Div", s.x, s.emit("Add", s.emit("Abs", s.x), s.scalar(1.0)), last=True)


def mish(s: Steps) -> None:
    """x tanh(softplus x)"""
    s.emit("Mul", s.x, s.emit("Tanh", _softplus(s)), last=True)


def prelu(s: Steps) -> None:
    """max(x, 0) - slope max(-x, 0); the slope is trained when it has more than one entry"""
    s.emit("Sub", s.emit("Relu", s.x), s.emit("Mul", s.below(s.x), s.node.input[1]), last=True)


def gelu(s: Steps) -> None:
    """x (1 + erf(x / sqrt 2)) / 2, or its tanh approximation"""
    x = s.x
    if edit.attribute(s.node, "approximate", b"none") == b"tanh":
        cubic = s.emit("Mul", s.emit("Mul", x, x), s.scalar(0.044715))
        inner = s.emit("Mul", x, s.emit("Add", cubic, s.scalar(1.0)))
        curve = s.emit("Tanh", s.emit("Mul", inner, s.scalar(float(np.sqrt(2 / np.pi)))))
    else:
        curve = s.emit("Erf", s.emit("Mul", x, s.scalar(float(np.sqrt(0.5)))))
    doubled = s.emit("Mul", s.emit("Add", curve, s.scalar(1.0)), x)
    s.emit("Mul", doubled, s.scalar(0.5), last=True)


def _clipped_line(s: Steps, slope: float, offset: float, *, last: bool = False) -> str:
    line = s.emit("Add", s.emit("Mul", s.x, s.scalar(slope)), s.scalar(offset))
    return s.emit("Clip", line, s.scalar(0.0), s.scalar(1.0), last=last)


def _fall(s: Steps, alpha: float, *, width: float = 1.0) -> str:
    """alpha (exp(min(x, 0) / width) - 1)"""
    below = s.emit("Neg", s.below(s.x))
    narrowed = below if width == 1.0 else s.emit("Mul", below, s.scalar(1 / width))
    return s.emit("Mul", s.emit("Sub", s.emit("Exp", narrowed), s.scalar(1.0)), s.scalar(alpha))


def _softplus(s: Steps, *, last: bool = False) -> str:
    bend = s.emit("Exp", s.emit("Neg", s.emit("Abs", s.x)))
    log = s.emit("Log", s.emit("Add", bend, s.scalar(1.0)))
    return s.emit("Add", s.emit("Relu", s.x), log, last=last)
