"""What does each term of the loss compute, as ONNX nodes? Only operators whose gradient the training tools know.

L(t) = alpha CE(label) + gamma soft(z_mentor, z_mentee) + SUM_k beta.k d_k(s_k, m_k)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

EPSILON = 1e-8
"""Keeps square roots away from zero, where their slope is infinite."""
UNLABELLED = -1
_FAR = 1e4
"""Taken from the logit of the class that is left out: its probability becomes 0 exactly."""


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


@dataclass(frozen=True)
class Terms:
    """Which label loss and which soft loss a set has."""

    soft: str = "kl"
    """A key of `SOFT_LOSSES`."""
    label_smoothing: float = 0.0
    tckd_weight: float = 1.0
    nckd_weight: float = 8.0
    spare_classes: int = 0
    """The last logits of the Mentee that stand for no class of the set."""


def without_spare(nodes: Nodes, rows: str, terms: Terms) -> str:
    """[n, classes and spare classes] -> [n, classes]"""
    if not terms.spare_classes:
        return rows
    starts, ends, axes = (nodes.constant([value], np.int64) for value in (0, -terms.spare_classes, 1))
    return nodes.add("Slice", [rows, starts, ends, axes])


def label_loss(nodes: Nodes, logits: str, terms: Terms, *, out: str) -> None:
    """Cross-entropy, the mean over the samples that have a label; 0 when none has.

    SUM_i [label_i >= 0] CE_i / max(1, number labelled), CE_i = -(1 - e) log p_i[label_i] - e mean_c log p_i[c], with e
    the label smoothing: Szegedy et al., arXiv:1512.00567. The mean is over the classes of the set: a share for a spare
    output would raise what no sample may ever be called.
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
    if terms.label_smoothing:
        total = _smoothed(nodes, logits, total, is_labelled, terms)
    count = nodes.add("ReduceSum", [is_labelled], keepdims=0)
    nodes.add("Div", [total, nodes.add("Max", [count, nodes.constant(1.0)])], out=out)


def _smoothed(nodes: Nodes, logits: str, total: str, is_labelled: str, terms: Terms) -> str:
    smoothing = terms.label_smoothing
    log_p = without_spare(nodes, nodes.add("LogSoftmax", [logits], axis=1), terms)
    every_class = nodes.add("ReduceMean", [log_p], axes=[1], keepdims=0)
    spread = nodes.add("ReduceSum", [nodes.add("Mul", [every_class, is_labelled])], keepdims=0)
    kept = nodes.add("Mul", [total, nodes.constant(1 - smoothing)])
    return nodes.add("Sub", [kept, nodes.add("Mul", [spread, nodes.constant(smoothing)])])


def kl(nodes: Nodes, mentor: str, mentee: str, terms: Terms, *, out: str) -> None:
    """T^2 times the mean over the rows of KL(softmax(z_mentor / T) || softmax(z_mentee / T)).

    Hinton et al., arXiv:1503.02531.
    """
    soft_mentor, soft_mentee = _softened(nodes, mentor, mentee)
    divergence = _divergence(nodes, soft_mentor, soft_mentee)
    nodes.add("Mul", [nodes.mean(divergence), _temperature_squared(nodes)], out=out)


def logit_mse(nodes: Nodes, mentor: str, mentee: str, terms: Terms, *, out: str) -> None:
    """mean((z_mentee - z_mentor)^2), over rows and classes; the temperature does not matter.

    Ba & Caruana, arXiv:1312.6184; compared with KL by Kim et al., arXiv:2105.08919.
    """
    # 0, computed from the input that would otherwise be unused, so that every set takes the same ones.
    zero = nodes.add("Sub", ["temperature", "temperature"])
    difference = nodes.mean(nodes.square(nodes.add("Sub", [mentee, mentor])))
    nodes.add("Add", [difference, zero], out=out)


def decoupled(nodes: Nodes, mentor: str, mentee: str, terms: Terms, *, out: str) -> None:
    """T^2 times the mean over the rows of a TCKD + b NCKD: Zhao et al., arXiv:2203.08679.

    With p the softened probabilities, t the target class and p' = p / (1 - p[t]) over the other classes:
    TCKD = KL((p_mentor[t], 1 - p_mentor[t]) || (p_mentee[t], 1 - p_mentee[t])), NCKD = KL(p'_mentor || p'_mentee).
    The target is the label; where there is none, the class that the Mentor holds likeliest: KL = TCKD + (1 - p[t]) NCKD
    for any t, so such a row says the same thing on the same scale. Plain KL would weigh it several times less.
    """
    is_target = _target_mask(nodes, mentor)
    soft_mentor, soft_mentee = _softened(nodes, mentor, mentee)
    left_out = nodes.add("Mul", [is_target, nodes.constant(_FAR)])
    others_mentor, others_mentee = (nodes.add("Sub", [soft, left_out]) for soft in (soft_mentor, soft_mentee))
    nckd = _divergence(nodes, others_mentor, others_mentee)
    target_mentor, rest_mentor = _target_and_rest(nodes, soft_mentor, others_mentor, is_target)
    target_mentee, rest_mentee = _target_and_rest(nodes, soft_mentee, others_mentee, is_target)
    on_target = nodes.add("Mul", [nodes.add("Exp", [target_mentor]), nodes.add("Sub", [target_mentor, target_mentee])])
    on_rest = nodes.add("Mul", [nodes.add("Exp", [rest_mentor]), nodes.add("Sub", [rest_mentor, rest_mentee])])
    tckd = nodes.add("Mul", [nodes.add("Add", [on_target, on_rest]), nodes.constant(terms.tckd_weight)])
    row = nodes.add("Add", [tckd, nodes.add("Mul", [nckd, nodes.constant(terms.nckd_weight)])])
    nodes.add("Mul", [nodes.mean(row), _temperature_squared(nodes)], out=out)


def _softened(nodes: Nodes, mentor: str, mentee: str) -> tuple[str, str]:
    return nodes.add("Div", [mentor, "temperature"]), nodes.add("Div", [mentee, "temperature"])


def _temperature_squared(nodes: Nodes) -> str:
    return nodes.add("Mul", ["temperature", "temperature"])


def _divergence(nodes: Nodes, mentor: str, mentee: str) -> str:
    """[n, c], [n, c] -> [n]: KL(softmax(mentor) || softmax(mentee))"""
    probability = nodes.add("Softmax", [mentor], axis=1)
    mentor_log = nodes.add("LogSoftmax", [mentor], axis=1)
    mentee_log = nodes.add("LogSoftmax", [mentee], axis=1)
    return nodes.sum_rows(nodes.add("Mul", [nodes.add("Sub", [mentor_log, mentee_log]), probability]))


def _target_mask(nodes: Nodes, mentor: str) -> str:
    """[n, c]: 1 at the label, or at the Mentor's highest logit for a row without a label that it knows; 0 elsewhere."""
    is_none = nodes.add("Equal", ["labels", nodes.constant(UNLABELLED, np.int64)])
    likeliest = nodes.add("ArgMax", [mentor], axis=1, keepdims=0)
    classes = nodes.add("Shape", [mentor], start=1, end=2)
    # Of a class that the owner named the Mentor knows nothing.
    is_unknown = nodes.add("Or", [is_none, nodes.add("GreaterOrEqual", ["labels", classes])])
    target = nodes.add("Where", [is_unknown, likeliest, "labels"])
    return nodes.add("OneHot", [target, classes, nodes.constant([0.0, 1.0])], axis=1)


def _target_and_rest(nodes: Nodes, soft: str, others: str, is_target: str) -> tuple[str, str]:
    """[n, c] -> [n], [n]: log p[t] and log(1 - p[t]), the latter without a difference that could be 0."""
    total, rest = _log_sum_exp(nodes, soft), _log_sum_exp(nodes, others)
    target = nodes.sum_rows(nodes.add("Mul", [soft, is_target]))
    return nodes.add("Sub", [target, total]), nodes.add("Sub", [rest, total])


def _log_sum_exp(nodes: Nodes, rows: str) -> str:
    """[n, c] -> [n]; keepdims, because without it the training tools write a gradient that does not load."""
    total = nodes.add("ReduceLogSumExp", [rows], axes=[1], keepdims=1)
    return nodes.add("Squeeze", [total, nodes.constant([1], np.int64)])


def rmse(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """sqrt(mean((s - m)^2) + epsilon), over the whole batch.

    Mentee networks: Venkatesan & Li, arXiv:1604.08220, in the form of github.com/tpbarron/mentee_networks; the epsilon
    is ours.
    """
    mean = nodes.mean(nodes.square(nodes.add("Sub", [mentee, mentor])))
    nodes.add("Sqrt", [nodes.add("Add", [mean, nodes.constant(EPSILON)])], out=out)


def mse(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """mean((s - m)^2). FitNets: Romero et al., arXiv:1412.6550, who take half the sum."""
    nodes.mean(nodes.square(nodes.add("Sub", [mentee, mentor])), out=out)


def cosine(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """1 - mean over the rows of <s, m> / (|s| |m|), each sample's features as one row.

    As hidden states are aligned in DistilBERT: Sanh et al., arXiv:1910.01108.
    """
    s, m = nodes.add("Flatten", [mentee], axis=1), nodes.add("Flatten", [mentor], axis=1)
    dot = nodes.sum_rows(nodes.add("Mul", [s, m]))
    norms = nodes.add("Mul", [_norm(nodes, s), _norm(nodes, m)])
    nodes.add("Sub", [nodes.constant(1.0), nodes.mean(nodes.add("Div", [dot, norms]))], out=out)


def attention(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """mean((q(s) - q(m))^2) with q the map of mean squares over the channels, scaled to length 1.

    Attention transfer: Zagoruyko & Komodakis, arXiv:1612.03928, in the form of the authors' code. The Mentor's side is
    given as q(m), a row of its places: all that a cache has to hold.
    """
    difference = nodes.add("Sub", [attention_map(nodes, mentee), mentor])
    nodes.mean(nodes.square(difference), out=out)


def attention_map(nodes: Nodes, features: str) -> str:
    """[n, channels, *places] -> [n, places]"""
    energy = nodes.add("ReduceMean", [nodes.square(features)], axes=[1], keepdims=0)
    row = nodes.add("Flatten", [energy], axis=1)
    length = nodes.add("Unsqueeze", [_norm(nodes, row), nodes.constant([1], np.int64)])
    return nodes.add("Div", [row, length])


def _norm(nodes: Nodes, rows: str) -> str:
    """[n, m] -> [n]: sqrt(SUM x^2 + epsilon)"""
    total = nodes.sum_rows(nodes.square(rows))
    return nodes.add("Sqrt", [nodes.add("Add", [total, nodes.constant(EPSILON)])])


def similarity(nodes: Nodes, mentee: str, mentor: str, *, out: str) -> None:
    """mean over the pairs of samples of (g(s) - g(m))^2, g = the rows of X X^T scaled to length 1, X a row a sample.

    Similarity-preserving: Tung & Mori, arXiv:1907.09682. Both sides keep their own shape; a batch of one gives 0.
    """
    nodes.mean(nodes.square(nodes.add("Sub", [_likeness(nodes, mentor), _likeness(nodes, mentee)])), out=out)


def _likeness(nodes: Nodes, features: str) -> str:
    rows = nodes.add("Flatten", [features], axis=1)
    products = nodes.add("MatMul", [rows, nodes.add("Transpose", [rows], perm=[1, 0])])
    length = nodes.add("Unsqueeze", [_norm(nodes, products), nodes.constant([1], np.int64)])
    return nodes.add("Div", [products, length])


SOFT_LOSSES: dict[str, Callable[..., None]] = {"kl": kl, "mse": logit_mse, "dkd": decoupled}

HINT_LOSSES: dict[str, Callable[..., None]] = {
    "rmse": rmse,
    "mse": mse,
    "cosine": cosine,
    "attention": attention,
    "similarity": similarity,
}

CHANNEL_FREE = frozenset({"attention", "similarity"})
"""Losses that compare features with different numbers of channels as they are."""
