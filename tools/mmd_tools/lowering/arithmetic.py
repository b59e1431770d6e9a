"""Lowering rules: arithmetic that the gradient builder writes with operators of its own."""

import numpy as np
from onnx import NodeProto

from mmd_tools.lowering.emitter import OPTIONAL, Emitter, attributes_of, input_of, output_of


def scale(e: Emitter, node: NodeProto) -> None:
    """y = x * s, or x / s when it scales down; s may be an integer."""
    x, factor = node.input
    op = "Div" if attributes_of(node).get("scale_down") else "Mul"
    e.emit(op, x, e.cast(factor), to=node.output[0])


def div_grad(e: Emitter, node: NodeProto) -> None:
    """y = a / b: da = dy / b, db = -dy * a / b^2, each summed where it was broadcast."""
    d_y, a, b = node.input
    d_a, d_b = output_of(node, 0), output_of(node, 1)
    shape = e.shape(d_y)
    share = e.emit("Div", d_y, b)
    if d_a:
        e.unbroadcast(share, shape, e.shape(a), to=d_a)
    if d_b:
        gradient = e.emit("Neg", e.emit("Mul", share, e.emit("Div", a, b)))
        e.unbroadcast(gradient, shape, e.shape(b), to=d_b)


def fused_mat_mul(e: Emitter, node: NodeProto) -> None:
    """y = alpha * A' B', a prime for a transposition of the last two axes where asked."""
    attributes = attributes_of(node)
    a, b = (
        _transposed(
            e, tensor, last=bool(attributes.get(f"trans{side}")), batch=bool(attributes.get(f"transBatch{side}"))
        )
        for tensor, side in zip(node.input, "AB", strict=True)
    )
    alpha = attributes.get("alpha", 1.0)
    if alpha == 1.0:
        e.emit("MatMul", a, b, to=node.output[0])
    else:
        e.emit("Mul", e.emit("MatMul", a, b), e.constant(alpha), to=node.output[0])


def _transposed(e: Emitter, tensor: str, *, last: bool, batch: bool) -> str:
    axes = list(range(len(e.shape(tensor))))
    if batch and len(axes) > 2:
        # transBatch moves the first axis to the place before the last one.
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if last and len(axes) > 1:
        axes[-1], axes[-2] = axes[-2], axes[-1]
    return e.emit("Transpose", tensor, perm=axes) if axes != sorted(axes) else tensor


def reduce_sum_training(e: Emitter, node: NodeProto) -> None:
    """y = sum of x over the axes that are computed; all of x kept where there are none."""
    attributes = attributes_of(node)
    e.emit("ReduceSum", *node.input, to=node.output[0], keepdims=int(attributes.get("keepdims", 1)),
           noop_with_empty_axes=int(attributes.get("noop_with_empty_axes", 0)))  # fmt: skip


def broadcast_gradient_args(e: Emitter, node: NodeProto) -> None:
    """Given the shapes of a and b: the axes of a + b along which a was broadcast, and those of b."""
    ranks = [int(e.sizes(shape)[0]) for shape in node.input]
    rank = max(ranks)
    a, b = (
        e.emit("Concat", e.integers(*(1,) * (rank - own)), shape, axis=0) if own < rank else shape
        for shape, own in zip(node.input, ranks, strict=True)
    )
    one = e.constant(1, np.int64)
    for index, (mine, other) in enumerate(((a, b), (b, a))):
        if output_of(node, index) == OPTIONAL:
            continue
        is_one = e.emit("Equal", mine, one)
        is_broadcast = e.emit("And", is_one, e.emit("Not", e.emit("Equal", other, one)))
        e.reshape(e.emit("NonZero", is_broadcast), -1, to=output_of(node, index))


def pass_through(e: Emitter, node: NodeProto) -> None:
    """y = x; further inputs only order the execution."""
    e.emit("Identity", input_of(node, 0), to=node.output[0])


def size_training(e: Emitter, node: NodeProto) -> None:
    """y = the number of elements of x."""
    e.emit("Size", node.input[0], to=node.output[0])
