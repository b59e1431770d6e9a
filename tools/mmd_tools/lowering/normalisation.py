"""Lowering rules: normalisation by the statistics of the batch or of the layer, and its gradients."""

from collections.abc import Sequence

from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of


def batch_norm_internal(e: Emitter, node: NodeProto) -> None:
    """y = (x - mean) / sqrt(var + eps) * scale + bias, mean and var of the batch, a channel each."""
    x, scale, bias, running_mean, running_var = node.input
    attributes = attributes_of(node)
    y, next_mean, next_var, saved_mean, saved_inverse = (output_of(node, index) for index in range(5))
    rank = len(e.shape(x))
    axes = (0, *range(2, rank))
    mean = e.reduce_mean(x, axes, keepdims=False)
    centred = e.emit("Sub", x, _per_channel(e, mean, rank))
    variance = e.reduce_mean(e.emit("Mul", centred, centred), axes, keepdims=False)
    spread = e.emit("Sqrt", e.emit("Add", variance, e.constant(attributes.get("epsilon", 1e-5))))
    inverse = e.emit("Reciprocal", spread, to=saved_inverse or None)
    factor = _per_channel(e, e.emit("Mul", scale, inverse), rank)
    e.emit("Add", e.emit("Mul", centred, factor), _per_channel(e, bias, rank), to=y)
    if saved_mean:
        e.emit("Identity", mean, to=saved_mean)
    momentum = attributes.get("momentum", 0.9)
    for old, new, to in ((running_mean, mean, next_mean), (running_var, variance, next_var)):
        if to:
            kept = e.emit("Mul", old, e.constant(momentum))
            e.emit("Add", kept, e.emit("Mul", new, e.constant(1.0 - momentum)), to=to)


def batch_norm_grad(e: Emitter, node: NodeProto) -> None:
    """h = (x - mean) * inv: dbias = sum dy; dscale = sum dy h; dx = scale inv (dy - mean dy - h mean(dy h))."""
    d_y, x, scale, mean, inverse = node.input
    rank = len(e.shape(x))
    axes = (0, *range(2, rank))
    d_x, d_scale, d_bias = (output_of(node, index) for index in range(3))
    inverse_wide = _per_channel(e, inverse, rank)
    normal = e.emit("Mul", e.emit("Sub", x, _per_channel(e, mean, rank)), inverse_wide)
    product = e.emit("Mul", d_y, normal)
    if d_x:
        factor = e.emit("Mul", _per_channel(e, scale, rank), inverse_wide)
        e.emit("Mul", factor, _without_trend(e, d_y, normal, product, axes), to=d_x)
    if d_scale:
        e.reduce_sum(product, axes, keepdims=False, to=d_scale)
    if d_bias:
        e.reduce_sum(d_y, axes, keepdims=False, to=d_bias)


def layer_norm_grad(e: Emitter, node: NodeProto) -> None:
    """h = (x - mean) * inv, d = dy scale: dx = inv (d - mean d - h mean(d h)); dscale = sum dy h; dbias = sum dy."""
    d_y, x, scale, mean, inverse = node.input
    rank = len(e.shape(x))
    first = int(attributes_of(node).get("axis", -1)) % rank
    d_x, d_scale, d_bias = (output_of(node, index) for index in range(3))
    normal = e.emit("Mul", e.emit("Sub", x, mean), inverse)
    if d_x:
        scaled = e.emit("Mul", d_y, scale)
        straight = _without_trend(e, scaled, normal, e.emit("Mul", scaled, normal), range(first, rank))
        e.emit("Mul", inverse, straight, to=d_x)
    if d_scale:
        e.unbroadcast(e.emit("Mul", d_y, normal), e.shape(x), e.shape(scale), to=d_scale)
    if d_bias:
        e.unbroadcast(d_y, e.shape(x), e.shape(scale), to=d_bias)


def _without_trend(e: Emitter, gradient: str, normal: str, product: str, axes: Sequence[int]) -> str:
    """g - mean g - h mean(g h): what is left of a gradient behind a normalisation."""
    level = e.emit("Sub", gradient, e.reduce_mean(gradient, axes, keepdims=True))
    return e.emit("Sub", level, e.emit("Mul", normal, e.reduce_mean(product, axes, keepdims=True)))


def _per_channel(e: Emitter, vector: str, rank: int) -> str:
    """[C] -> [C, 1, ...], to meet [N, C, ...]."""
    return e.reshape(vector, -1, *(1,) * (rank - 2)) if rank > 2 else vector
