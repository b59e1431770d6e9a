"""What does each term of the loss compute, as ONNX nodes? Only operators whose gradient the training tools know.

L(t) = alpha CE(label) + gamma T^2 KL(softmax(z_mentor / T) || softmax(z_mentee / T)) + SUM_k beta.k d_k(s_k, m_k)
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

EPSILON = 1e-8
"""Keeps square roots away from zero, where their slope is infinite."""
UNLABELLED = -1


class Nodes:
    """Collects nodes and constants under names that begin with `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], *, out: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = f"{self.prefix}{op}_{len(self.nodes)}"
        output = out or f"{name}.out"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        name = f"{self.prefix}constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def initializer(self, name: str, value: NDArray[np.float32]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def square(self, name: str) -> str:
        return self.add("Mul", [name, name])

    def sum_rows(self, name: str) -> str:
        """[n, m] -> [n]"""
        return self.add("ReduceSum", [name, self.constant([1], np.int64)], keepdims=0)

    def mean(self, name: str, *, out: str | None = None) -> str:
        """The mean of everything, a scalar."""
        return self.add("ReduceMean", [name], keepdims=0, out=out)


def label_loss(nodes: Nodes, logits: str, *, out: str) -> None:
    """Cross-entropy, the mean over the samples that have a label; 0 when none has.

    SUM_i [label_i >= 0] CE_i / max(1, number labelled)
    """
    row = f"{nodes.prefix}label.row"
    name = f"{nodes.prefix}label.ce"
    nodes.nodes.append(
        helper.make_node(
            "SoftmaxCrossEntropyLoss",
            [logits, "labels"],
            [row, f"{row}.log_prob"],
            name=name,
            reduction="none",
            ignore_index=UNLABELLED,
        )
    )
    total = nodes.add("ReduceSum", [row], keepdims=0)
    is_none = nodes.add("Equal", ["labels", nodes.constant(UNLABELLED, np.int64)])
    is_labelled = nodes.add("Cast", [nodes.add("Not", [is_none])], to=onnx.TensorProto.FLOAT)
    count = nodes.add("ReduceSum", [is_labelled], keepdims=0)
    nodes.add("Div", [total, nodes.add("Max", [count, nodes.constant(1.0)])], out=out)


def soft_loss(nodes: Nodes, mentor: str, mentee: str, *, out: str) -> None:
    """T^2 times the mean over the rows of KL(softmax(z_mentor / T) || softmax(z_mentee / T)). Hinton, 1503.02531."""
    soft_mentor = nodes.add("Div", [mentor, "temperature"])
    soft_mentee = nodes.add("Div", [mentee, "temperature"])
    probability = nodes.add("Softmax", [soft_mentor], axis=1)
    mentor_log = nodes.add("LogSoftmax", [soft_mentor], axis=1)
    mentee_log = nodes.add("LogSoftmax", [soft_mentee], axis=1)
    product = nodes.add("Mul", [nodes.add("Sub", [mentor_log, mentee_log]), probability])
    mean = nodes.mean(nodes.sum_rows(product))
    nodes.add("Mul", [mean, nodes.add("Mul", ["temperature", "temperature"])], out=out)


def rmse(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """sqrt(mean((s - m)^2) + epsilon), over the whole batch."""
    mean = nodes.mean(nodes.square(nodes.add("Sub", [mentee, mentor])))
    nodes.add("Sqrt", [nodes.add("Add", [mean, nodes.constant(EPSILON)])], out=out)


def mse(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """mean((s - m)^2)"""
    nodes.mean(nodes.square(nodes.add("Sub", [mentee, mentor])), out=out)


def cosine(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """1 - mean over the rows of <s, m> / (|s| |m|), each sample's features as one row."""
    s, m = nodes.add("Flatten", [mentee], axis=1), nodes.add("Flatten", [mentor], axis=1)
    dot = nodes.sum_rows(nodes.add("Mul", [s, m]))
    norms = nodes.add("Mul", [_norm(nodes, s), _norm(nodes, m)])
    nodes.add("Sub", [nodes.constant(1.0), nodes.mean(nodes.add("Div", [dot, norms]))], out=out)


def attention(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """mean((q(s) - q(m))^2) with q the map of mean squares over the channels, scaled to length 1.

    Attention transfer: Zagoruyko & Komodakis, arXiv:1612.03928, in the form of the authors' code.
    """
    difference = nodes.add("Sub", [_attention_map(nodes, mentee), _attention_map(nodes, mentor)])
    nodes.mean(nodes.square(difference), out=out)


def _attention_map(nodes: Nodes, features: str) -> str:
    energy = nodes.add("ReduceMean", [nodes.square(features)], axes=[1], keepdims=0)
    row = nodes.add("Flatten", [energy], axis=1)
    length = nodes.add("Unsqueeze", [_norm(nodes, row), nodes.constant([1], np.int64)])
    return nodes.add("Div", [row, length])


def _norm(nodes: Nodes, rows: str) -> str:
    """[n, m] -> [n]: sqrt(SUM x^2 + epsilon)"""
    total = nodes.sum_rows(nodes.square(rows))
    return nodes.add("Sqrt", [nodes.add("Add", [total, nodes.constant(EPSILON)])])


HINT_LOSSES: dict[str, Callable[..., None]] = {"rmse": rmse, "mse": mse, "cosine": cosine, "attention": attention}

CHANNEL_FREE = frozenset({"attention"})
"""Losses that compare features with different numbers of channels as they are."""
