"""How does a short list of words become an untrained network? One row of `LAYERS` a word, and a seed.

    layers = ["conv 16 5", "relu", "pool 2", "flatten", "fc 10"]

Convolutions keep height and width (zero padding, odd kernels). On a map of height 1, a signal, convolutions and pools
work along its width. Tensors are called after their word and its count:
`conv1`, `relu1`, `pool1`, ..., the last one `logits`; weights `conv1.weight`, `conv1.bias`.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from mmd.augmentation import Augmentation
from mmd.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx

INPUT, LOGITS, BATCH = "input", "logits", "batch"
OPSET, IR_VERSION = 17, 9

NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class AudioAugmentRecipe(_Section, frozen=True):
    """`[nets.NAME.audio_augment]`: how far each recording is changed, at most; 0 leaves it alone."""

    speed: NonNegative = 0.0
    """Played faster or slower, and so higher or lower, by a factor between exp(-speed) and exp(speed)."""
    shift_ms: NonNegative = 0.0
    """Earlier or later."""
    gain_db: NonNegative = 0.0
    """Louder or quieter."""
    tilt_db: NonNegative = 0.0
    """Of the spectrum, from its lower to its upper end, as other microphones have it."""
    noise_db: NonNegative = 0.0
    """Noise from 50 dB below the recording up to so many dB louder than that."""
    mask_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Spectra in a row that are set to their mean (SpecAugment, arXiv:1904.08779)."""
    mask_mels: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Features of every spectrum, neighbours, that are set to their mean."""


class PretrainRecipe(_Section, frozen=True):
    """`[nets.NAME.training]`: how the shipped weights are made, offline."""

    epochs: Count = 10
    """How often each training sample is seen."""
    batch_size: Count = 64
    """Samples a step."""
    learning_rate: Positive = 2e-3
    """The highest one."""
    decay: Literal["cosine", "linear"] = "cosine"
    """How it falls to 0."""
    schedule: str = "obedient"
    """Of the loss, where a Mentor takes part."""


class NetRecipe(_Section, frozen=True):
    """`[nets.NAME]`: one network, from its layers to its training."""

    layers: tuple[str, ...]
    """A text a layer, as "conv 8 5", "relu", "pool 2", "flatten", "fc 10"; the last has the classes."""
    input: tuple[Count, ...]
    """Without the batch: (channels, height, width), or (features,)."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the first weights."""
    training: PretrainRecipe = PretrainRecipe()
    augment: Augmentation = Augmentation()
    """Of each training sample, drawn anew in every epoch."""
    audio_augment: AudioAugmentRecipe = AudioAugmentRecipe()


class _Builder:
    """Collects the nodes and weights of a network while its layers are read."""

    def __init__(self, net: NetRecipe) -> None:
        import numpy as np

        self.shape: tuple[int, ...] = net.input
        self.tensor = INPUT
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.counts: Counter[str] = Counter()
        self.layers_left = len(net.layers)
        self._rng = np.random.default_rng(net.seed)

    def add(self, word: str, op_type: str, inputs: tuple[str, ...] = (), **attributes: Any) -> None:
        from onnx import helper

        self.counts[word] += 1
        name = self.name(word)
        output = LOGITS if self.layers_left == 1 else name
        node = helper.make_node(op_type, [self.tensor, *inputs], [output], name=name, **attributes)
        self.nodes.append(node)
        self.tensor = output

    def name(self, word: str) -> str:
        return f"{word}{self.counts[word]}"

    def weight_and_bias(self, word: str, shape: tuple[int, ...]) -> tuple[str, str]:
        """Normal with variance 2 / inputs (He et al., arXiv:1502.01852, for what a ReLU follows); the bias is 0."""
        import numpy as np
        from onnx import numpy_helper

        name = f"{word}{self.counts[word] + 1}"
        deviation = math.sqrt(2 / math.prod(shape[1:]))
        weight = (self._rng.standard_normal(shape) * deviation).astype(np.float32)
        for part, values in (("weight", weight), ("bias", np.zeros(shape[0], np.float32))):
            self.weights.append(numpy_helper.from_array(values, f"{name}.{part}"))
        return f"{name}.weight", f"{name}.bias"


def _conv(builder: _Builder, channels: int, kernel: int) -> None:
    if kernel % 2 == 0:
        raise UsageError(f"the kernel {kernel} is even; an odd one keeps height and width.")
    inputs, height, width = _map(builder)
    down = 1 if height == 1 else kernel
    names = builder.weight_and_bias("conv", (channels, inputs, down, kernel))
    pads = [down // 2, kernel // 2] * 2
    builder.add("conv", "Conv", names, kernel_shape=[down, kernel], pads=pads)
    builder.shape = (channels, height, width)


def _pool(builder: _Builder, size: int) -> None:
    channels, height, width = _map(builder)
    down = 1 if height == 1 else size
    if down > height or size > width:
        raise UsageError(f"the map is {height}x{width}, smaller than the pool.")
    builder.add("pool", "MaxPool", kernel_shape=[down, size], strides=[down, size])
    builder.shape = (channels, height // down, width // size)


def _relu(builder: _Builder) -> None:
    builder.add("relu", "Relu")


def _flatten(builder: _Builder) -> None:
    builder.add("flatten", "Flatten", axis=1)
    builder.shape = (math.prod(builder.shape),)


def _fc(builder: _Builder, features: int) -> None:
    if len(builder.shape) != 1:
        raise UsageError("it needs rows; put `flatten` before it.")
    names = builder.weight_and_bias("fc", (features, builder.shape[0]))
    builder.add("fc", "Gemm", names, transB=1)
    builder.shape = (features,)


def _map(builder: _Builder) -> tuple[int, int, int]:
    if len(builder.shape) != 3:
        raise UsageError("it needs a map of channels, and the layers before it made rows.")
    channels, height, width = builder.shape
    return channels, height, width


LAYERS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "conv": (_conv, ("channels", "kernel")),
    "pool": (_pool, ("size",)),
    "relu": (_relu, ()),
    "flatten": (_flatten, ()),
    "fc": (_fc, ("features",)),
}


def build_net(net: NetRecipe) -> "onnx.ModelProto":
    """Return the untrained network, the same bits for the same recipe. Raises `UsageError` naming the layer."""
    import onnx
    from onnx import TensorProto, helper

    if not net.layers:
        raise UsageError("The network has no layers; give it at least `fc CLASSES`.")
    builder = _Builder(net)
    for layer in net.layers:
        _add_layer(builder, layer)
        builder.layers_left -= 1
    graph = helper.make_graph(
        builder.nodes,
        "net",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, *net.input])],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [BATCH, *builder.shape])],
        builder.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_layer(builder: _Builder, layer: str) -> None:
    word, *numbers = layer.split() or [""]
    if word not in LAYERS:
        raise UsageError(f"There is no layer `{layer}`; known: {', '.join(LAYERS)}.")
    add, names = LAYERS[word]
    sizes = [int(number) for number in numbers if number.isdecimal() and int(number) > 0]
    if len(sizes) != len(numbers) or len(sizes) != len(names):
        raise UsageError(f"The layer `{layer}` does not parse; write `{' '.join([word, *map(str.upper, names)])}`.")
    try:
        add(builder, *sizes)
    except UsageError as error:
        raise UsageError(f"The layer `{layer}` does not fit: {error}") from error


def parameter_count(model: "onnx.ModelProto") -> int:
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer)


def with_weights(model: "onnx.ModelProto", values: "dict[str, np.ndarray]") -> "onnx.ModelProto":
    """Return a copy of `model` in which the initializers that `values` names have those values."""
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return changed
