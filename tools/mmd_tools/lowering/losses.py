"""Lowering rules: the cross entropy of labels, and its gradient."""

import numpy as np
from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of, input_of, output_of


def softmax_cross_entropy_loss(e: Emitter, node: NodeProto) -> None:
    """l[n] = -w[t] log softmax(x)[n, t], 0 where t is ignored; then none, the sum, or the mean weighted by w."""
    x, labels = node.input[:2]
    log_probabilities = e.emit("LogSoftmax", x, to=output_of(node, 1) or None, axis=1)
    e.shapes[log_probabilities] = e.shape(x)
    weights, safe_labels = _sample_weights(e, node, labels, input_of(node, 2), input_of(node, 3))
    picked = e.emit("GatherElements", log_probabilities, e.emit("Unsqueeze", safe_labels, e.integers(1)), axis=1)
    losses = e.emit("Neg", e.emit("Squeeze", picked, e.integers(1)))
    if weights:
        losses = e.emit("Mul", losses, weights)
    reduction = attributes_of(node).get("reduction", "mean")
    if reduction == "none":
        e.emit("Identity", losses, to=node.output[0])
    elif reduction == "mean" and weights:
        e.emit("Div", _sum_all(e, losses), _sum_all(e, weights), to=node.output[0])
    else:
        op = "ReduceMean" if reduction == "mean" else "ReduceSum"
        e.emit(op, losses, to=node.output[0], keepdims=0)


def softmax_cross_entropy_loss_grad(e: Emitter, node: NodeProto) -> None:
    """dx[n, c] = dl[n] * w[t] * (softmax(x)[n, c] - [c = t]), 0 where t is ignored; dl / sum of w for the mean."""
    d_loss, log_probabilities, labels = node.input[:3]
    weights, safe_labels = _sample_weights(e, node, labels, input_of(node, 3), input_of(node, 4))
    reduction = attributes_of(node).get("reduction", "mean")
    if reduction == "mean":
        count = weights or e.cast(e.emit("Size", labels))
        d_loss = e.emit("Div", d_loss, _sum_all(e, weights) if weights else count)
    scale = e.emit("Mul", d_loss, weights) if weights else d_loss
    is_scalar = reduction != "none" and not weights
    scale = scale if is_scalar else e.emit("Unsqueeze", scale, e.integers(1))
    classes, *rest = e.sizes(log_probabilities, start=1)
    every_class = e.constant(np.arange(classes).reshape(1, classes, *(1 for _ in rest)), np.int64)
    is_label = e.emit("Equal", e.emit("Unsqueeze", safe_labels, e.integers(1)), every_class)
    one_hot = e.cast(is_label)
    difference = e.emit("Sub", e.emit("Exp", log_probabilities), one_hot)
    e.emit("Mul", difference, scale, to=node.output[0])


def _sample_weights(e: Emitter, node: NodeProto, labels: str, class_weights: str, ignore: str) -> tuple[str, str]:
    """Return the weight of every sample (`""`: all 1), and labels that are in range where the sample is ignored."""
    ignored = attributes_of(node).get("ignore_index")
    if ignore:
        ignored_label = ignore
    elif ignored is None:
        return (e.emit("Gather", class_weights, labels), labels) if class_weights else ("", labels)
    else:
        ignored_label = e.constant(ignored, np.int64)
    is_ignored = e.emit("Equal", labels, ignored_label)
    safe_labels = e.emit("Where", is_ignored, e.constant(0, np.int64), labels)
    weights = e.emit("Gather", class_weights, safe_labels) if class_weights else e.constant(1.0)
    return e.emit("Where", is_ignored, e.constant(0.0), weights), safe_labels


def _sum_all(e: Emitter, tensor: str) -> str:
    return e.emit("ReduceSum", tensor, keepdims=0)
