"""Which operators may the two networks hold? One table; what is not in it is refused by name when a set is built."""

from mmd_tools.fuse import activations
from mmd_tools.fuse.decompose import DECOMPOSITIONS
from mmd_tools.fuse.instance_norm import group_normalization


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The Mentee is trained, so each of these has a gradient in onnxruntime's training tools and a lowering rule, or a form
# of its own in the training graphs (`trained.py`).
TRAINABLE = _words(
    """Abs Add AveragePool Clip Concat Conv ConvTranspose Cos Div Erf Exp Flatten GatherElements Gemm GlobalAveragePool
    LayerNormalization LeakyRelu Log LogSoftmax MatMul Max MaxPool Min Mul Neg Pad Pow ReduceLogSumExp ReduceMean
    ReduceSum Relu Reshape Resize ScatterElements Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Tile TopK
    Transpose Trilu Unsqueeze Where"""
)

# Masks and conditions: nothing flows back through them.
CONDITIONS = _words("And Equal Greater GreaterOrEqual Less LessOrEqual Not Or")

# Removed or rewritten into the operators above before anything else looks at the network.
_UNROLLED = "unrolled over a sequence of fixed length that starts at zero; two matrices and a bias a direction"
REWRITINGS = {
    **{name: rule.__doc__ or "" for name, rule in DECOMPOSITIONS.items()},
    "BatchNormalization": "folded into the weights before it, or a product and a sum; its statistics are frozen",
    "Constant": "a constant of the graph",
    "Dropout": 'gone; with `dropout = "keep"` in the recipe, a product with a mask that is an input of the step',
    "GRU": _UNROLLED,
    "Gelu": activations.gelu.__doc__ or "",
    "GroupNormalization": group_normalization.__doc__ or "",
    "Identity": "gone",
    "LSTM": _UNROLLED,
    "Mish": activations.mish.__doc__ or "",
    "RNN": _UNROLLED,
}
REWRITTEN = frozenset(REWRITINGS)

# Integer work on shapes: it carries no gradient and disappears when the shapes turn out to be static.
SHAPE_WORK = _words("Cast ConstantOfShape Expand Gather Mod Range Shape")

# The Mentor only looks, so anything the stock runtime computes the same way every time will do.
FROZEN_ONLY = _words(
    """Ceil DequantizeLinear Einsum Floor GatherND LpPool QLinearConv QLinearMatMul QuantizeLinear Sign Upsample"""
)

# Graphs within the graph: what they compute cannot be followed. Named only for what `inspect` says of them.
CONTROL_FLOW = _words("If Loop Scan")

SUPPORTED = {
    "mentee": TRAINABLE | CONDITIONS | REWRITTEN | SHAPE_WORK,
    "mentor": TRAINABLE | CONDITIONS | REWRITTEN | SHAPE_WORK | FROZEN_ONLY,
}

# Slots whose constant operand is a weight that training moves; constants elsewhere stay as they are.
WEIGHT_SLOTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
}
