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
REWRITTEN = _words("BatchNormalization Constant Dropout GRU Gelu GlobalMaxPool HardSigmoid HardSwish Identity LSTM RNN")

# Integer work on shapes: it carries no gradient and disappears when the shapes turn out to be static.
SHAPE_WORK = _words("Cast ConstantOfShape Equal Expand Gather Range Shape Where")

# The Mentor only looks, so anything the stock runtime computes the same way every time will do.
FROZEN_ONLY = _words(
    """Ceil Celu ConvTranspose DepthToSpace DequantizeLinear Einsum Elu Floor GatherElements GatherND
    InstanceNormalization LRN LpNormalization LpPool Max Mean Min Mish Mod PRelu QLinearConv
    QLinearMatMul QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMin Resize Selu Sign Softplus Softsign
    SpaceToDepth Sum Tile Upsample"""
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
