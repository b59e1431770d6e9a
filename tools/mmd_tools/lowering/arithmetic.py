"""Lowering rules: arithmetic that the gradient builder writes with operators of its own."""

from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of


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
