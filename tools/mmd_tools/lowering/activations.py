"""Lowering rules: activations and their gradients, element by element or along one axis."""

from math import pi, sqrt

from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of


def relu_grad(e: Emitter, node: NodeProto) -> None:
    """y = max(x, 0): dx = dy * [y > 0]."""
    d_y, y = node.input
    # min(1, 3e38 y) where y > 0: exactly 1 for every y that is not denormal. Half the time of a comparison and a cast,
    # a tenth of that of Where; see docs/performance.md.
    e.emit("Mul", d_y, e.emit("HardSigmoid", y, alpha=3e38, beta=0.0), to=node.output[0])


def leaky_relu_grad(e: Emitter, node: NodeProto) -> None:
    """y = x where x > 0, else alpha x (alpha > 0, so y has the sign of x): dx = dy or alpha dy."""
    d_y, y = node.input
    alpha = e.constant(attributes_of(node).get("alpha", 0.01))
    is_positive = e.emit("Greater", y, e.constant(0.0))
    e.emit("Where", is_positive, d_y, e.emit("Mul", d_y, alpha), to=node.output[0])


def sigmoid_grad(e: Emitter, node: NodeProto) -> None:
    """y = 1 / (1 + exp(-x)): dx = dy * y * (1 - y)."""
    d_y, y = node.input
    slope = e.emit("Mul", y, e.emit("Sub", e.constant(1.0), y))
    e.emit("Mul", d_y, slope, to=node.output[0])


def tanh_grad(e: Emitter, node: NodeProto) -> None:
    """y = tanh x: dx = dy * (1 - y^2)."""
    d_y, y = node.input
    slope = e.emit("Sub", e.constant(1.0), e.emit("Mul", y, y))
    e.emit("Mul", d_y, slope, to=node.output[0])


def gelu(e: Emitter, node: NodeProto) -> None:
    """y = x * Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 (or its tanh approximation)."""
    if attributes_of(node).get("approximate", "none") == "tanh":
        fast_gelu(e, node)
        return
    x = node.input[0]
    e.emit("Mul", x, _normal_cdf(e, x), to=node.output[0])


def gelu_grad(e: Emitter, node: NodeProto) -> None:
    """y = x * Phi(x): dx = dy * (Phi(x) + x * phi(x)), phi the normal density."""
    d_y, x = node.input[:2]
    _gelu_slope(e, d_y, x, to=node.output[0])


def bias_gelu(e: Emitter, node: NodeProto) -> None:
    """y = s * Phi(s), s = x + b."""
    total = e.emit("Add", node.input[0], node.input[1])
    e.emit("Mul", total, _normal_cdf(e, total), to=node.output[0])


def bias_gelu_grad(e: Emitter, node: NodeProto) -> None:
    """y = s * Phi(s), s = x + b: dx = dy * (Phi(s) + s * phi(s))."""
    d_y, x, b = node.input[:3]
    _gelu_slope(e, d_y, e.emit("Add", x, b), to=node.output[0])


def fast_gelu(e: Emitter, node: NodeProto) -> None:
    """y = x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3), x with the bias added when there is one."""
    x = node.input[0] if len(node.input) < 2 else e.emit("Add", *node.input)
    bent = e.emit("Add", e.emit("Tanh", _fast_gelu_argument(e, x)), e.constant(1.0))
    e.emit("Mul", e.emit("Mul", x, e.constant(0.5)), bent, to=node.output[0])


def fast_gelu_grad(e: Emitter, node: NodeProto) -> None:
    """t = tanh u: dx = dy * ((1 + t) / 2 + x (1 - t^2) u' / 2), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)."""
    d_y, x = node.input[:2]
    t = e.emit("Tanh", _fast_gelu_argument(e, x))
    square = e.emit("Mul", x, x)
    u_slope = e.emit("Add", e.emit("Mul", square, e.constant(3 * 0.044715 * sqrt(2 / pi))), e.constant(sqrt(2 / pi)))
    t_slope = e.emit("Mul", e.emit("Sub", e.constant(1.0), e.emit("Mul", t, t)), u_slope)
    doubled = e.emit("Add", e.emit("Add", t, e.constant(1.0)), e.emit("Mul", x, t_slope))
    e.emit("Mul", d_y, e.emit("Mul", doubled, e.constant(0.5)), to=node.output[0])


def quick_gelu(e: Emitter, node: NodeProto) -> None:
    """y = x * sigmoid(alpha x)."""
    x = node.input[0]
    alpha = e.constant(attributes_of(node).get("alpha", 1.702))
    e.emit("Mul", x, e.emit("Sigmoid", e.emit("Mul", x, alpha)), to=node.output[0])


def quick_gelu_grad(e: Emitter, node: NodeProto) -> None:
    """s = sigmoid(alpha x): dx = dy * s * (1 + alpha x (1 - s))."""
    d_y, x = node.input[:2]
    scaled = e.emit("Mul", x, e.constant(attributes_of(node).get("alpha", 1.702)))
    s = e.emit("Sigmoid", scaled)
    bent = e.emit("Mul", scaled, e.emit("Sub", e.constant(1.0), s))
    e.emit("Mul", d_y, e.emit("Mul", s, e.emit("Add", bent, e.constant(1.0))), to=node.output[0])


def softmax_grad(e: Emitter, node: NodeProto) -> None:
    """y = softmax x: dx = y * (dy - sum(dy * y)), the sum along the axis."""
    d_y, y = node.input
    total = e.reduce_sum(e.emit("Mul", d_y, y), [attributes_of(node).get("axis", -1)], keepdims=True)
    e.emit("Mul", y, e.emit("Sub", d_y, total), to=node.output[0])


def log_softmax_grad(e: Emitter, node: NodeProto) -> None:
    """y = log softmax x: dx = dy - exp(y) * sum(dy), the sum along the axis."""
    d_y, y = node.input
    total = e.reduce_sum(d_y, [attributes_of(node).get("axis", -1)], keepdims=True)
    e.emit("Sub", d_y, e.emit("Mul", e.emit("Exp", y), total), to=node.output[0])


def _normal_cdf(e: Emitter, x: str) -> str:
    bent = e.emit("Erf", e.emit("Mul", x, e.constant(sqrt(0.5))))
    return e.emit("Mul", e.emit("Add", bent, e.constant(1.0)), e.constant(0.5))


def _gelu_slope(e: Emitter, d_y: str, x: str, *, to: str) -> None:
    exponent = e.emit("Mul", e.emit("Mul", x, x), e.constant(-0.5))
    density = e.emit("Mul", e.emit("Exp", exponent), e.constant(1 / sqrt(2 * pi)))
    slope = e.emit("Add", _normal_cdf(e, x), e.emit("Mul", x, density))
    e.emit("Mul", d_y, slope, to=to)


def _fast_gelu_argument(e: Emitter, x: str) -> str:
    square = e.emit("Mul", x, x)
    factor = e.emit("Add", e.emit("Mul", square, e.constant(0.044715 * sqrt(2 / pi))), e.constant(sqrt(2 / pi)))
    return e.emit("Mul", x, factor)
