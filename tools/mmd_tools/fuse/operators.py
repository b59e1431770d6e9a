"""Which operators may the two networks hold? One table; what is not in it is refused by name when a set is built."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The Mentee is trained, so each of these has a gradient in onnxruntime's training tools and a lowering rule.
TRAINABLE = _words(
    """Abs Add AveragePool Clip Concat Conv Div Erf Exp Flatten Gemm GlobalAveragePool LayerNormalization LeakyRelu Log
    LogSoftmax MatMul MaxPool Mul Neg Pad Pow ReduceMean ReduceSum Relu Reshape Sigmoid Slice Softmax Split Sqrt Squeeze
    Sub Tanh Transpose Unsqueeze"""
)

# Removed or rewritten into the operators above before anything else looks at the network.
_UNROLLED = "unrolled over a sequence of fixed length that starts at zero; two matrices and a bias a direction"
REWRITINGS = {
    "BatchNormalization": "folded into the weights before it, or a product and a sum; its statistics are frozen",
    "Constant": "a constant of the graph",
    "Dropout": 'gone; with `dropout = "keep"` in the recipe, a product with a mask that is an input of the step',
    "Elu": "max(x, 0) + alpha (exp(min(x, 0)) - 1)",
    "GRU": _UNROLLED,
    "Gelu": "x (1 + erf(x / sqrt 2)) / 2, or its tanh approximation",
    "GlobalMaxPool": "a MaxPool whose window is the whole map",
    "HardSigmoid": "a line, clipped",
    "HardSwish": "x times a line, clipped",
    "Identity": "gone",
    "LRN": "x / (bias + alpha / size * the sum of squares over the channels around) ^ beta",
    "LSTM": _UNROLLED,
    "Mish": "x tanh(softplus x)",
    "PRelu": "max(x, 0) - slope max(-x, 0)",
    "RNN": _UNROLLED,
    "Reciprocal": "1 / x",
    "Softplus": "max(x, 0) + log(1 + exp(-abs x))",
    "Softsign": "x / (1 + abs x)",
    "Sum": "one Add after another",
}
REWRITTEN = frozenset(REWRITINGS)

# Integer work on shapes: it carries no gradient and disappears when the shapes turn out to be static.
SHAPE_WORK = _words("Cast ConstantOfShape Equal Expand Gather Range Shape Where")

# The Mentor only looks, so anything the stock runtime computes the same way every time will do.
FROZEN_ONLY = _words(
    """Ceil Celu ConvTranspose DepthToSpace DequantizeLinear Einsum Floor GatherElements GatherND InstanceNormalization
    LpNormalization LpPool Max Mean Min Mod QLinearConv QLinearMatMul QuantizeLinear ReduceL1 ReduceL2 ReduceMax
    ReduceMin Resize Selu Sign SpaceToDepth Tile Upsample"""
)

SUPPORTED = {
    "mentee": TRAINABLE | REWRITTEN | SHAPE_WORK,
    "mentor": TRAINABLE | REWRITTEN | SHAPE_WORK | FROZEN_ONLY,
}

# Slots whose constant operand is a weight that training moves; constants elsewhere stay as they are.
WEIGHT_SLOTS = {
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
}
