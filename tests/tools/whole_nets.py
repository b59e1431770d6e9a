"""Which whole networks must train alike on both engines? One small member of each family, with random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from tests.tools.networks import CLASSES, Net, save

from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.manifest import OptimizerSpec
from mmd_tools.fuse import fuse
from mmd_tools.recipe import InputRecipe, Recipe

Shape = tuple[int, ...]


class Layers(Net):
    """Layers with He's scale, so that deep networks neither explode nor fall silent."""

    def weight(self, *shape: int, scale: float = 0.4) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        drawn = self.rng.standard_normal(shape) * (np.sqrt(2 / fan_in) if len(shape) > 1 else 0.05)
        return self.constant(drawn.astype(np.float32))

    def relu_conv(self, x: str, fan_in: int, fan_out: int, kernel: int = 3, **attributes: object) -> str:
        return self.add("Relu", self.conv(x, fan_in, fan_out, kernel, **attributes))

    def conv_1d(self, x: str, fan_in: int, fan_out: int, kernel: int, **attributes: object) -> str:
        weight, bias = self.weight(fan_out, fan_in, kernel), self.weight(fan_out)
        attributes.setdefault("pads", [kernel // 2] * 2)
        return self.add("Relu", self.add("Conv", x, weight, bias, **attributes))

    def halved(self, x: str) -> str:
        return self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def dense(self, x: str, fan_in: int, fan_out: int) -> str:
        """A matrix product along the last axis, as attention uses it."""
        weight = self.constant((self.rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32))
        return self.add("Add", self.add("MatMul", x, weight), self.weight(fan_out))

    def layer_norm(self, x: str, width: int) -> str:
        return self.add("LayerNormalization", x, self.constant(np.ones(width, np.float32)), self.weight(width), axis=-1)

    def relu_norm_conv(self, x: str, fan_in: int, fan_out: int, **attributes: object) -> str:
        return self.add("Relu", self.norm(self.conv(x, fan_in, fan_out, bias=False, **attributes), fan_out))

    def norm(self, x: str, channels: int) -> str:
        ones = self.constant(np.ones(channels, np.float32))
        variance = self.constant(self.rng.uniform(0.5, 1.5, channels).astype(np.float32))
        return self.add("BatchNormalization", x, ones, self.weight(channels), self.weight(channels), variance)

    def head(self, x: str, width: int) -> str:
        return self.gemm(self.add("Flatten", self.add("GlobalAveragePool", x), axis=1), width, len(CLASSES))


def mlp(net: Layers) -> str:
    x = net.add("Flatten", "x", axis=1)
    x = net.add("Sigmoid", net.gemm(x, 48, 32))
    return net.gemm(net.add("Tanh", net.gemm(x, 32, 16)), 16, len(CLASSES))


def lenet(net: Layers) -> str:
    x = net.halved(net.add("Tanh", net.conv("x", 1, 4, 5)))
    x = net.add("AveragePool", net.add("Tanh", net.conv(x, 4, 8, 5)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Tanh", net.gemm(net.add("Flatten", x, axis=1), 8 * 9, 24))
    return net.gemm(net.add("Relu", net.gemm(x, 24, 16)), 16, len(CLASSES))


def vgg(net: Layers) -> str:
    x = "x"
    for fan_in, fan_out in ((3, 8), (8, 12), (12, 16)):
        x = net.halved(net.relu_conv(net.relu_conv(x, fan_in, fan_out), fan_out, fan_out))
    x = net.add("Relu", net.gemm(net.add("Flatten", x, axis=1), 16 * 4, 24))
    return net.gemm(x, 24, len(CLASSES))


def resnet(net: Layers) -> str:
    """One block with an identity, one with a projection and a stride."""
    x = net.relu_norm_conv("x", 3, 8)
    y = net.norm(net.conv(net.relu_norm_conv(x, 8, 8), 8, 8, bias=False), 8)
    x = net.add("Relu", net.add("Add", x, y))
    y = net.norm(net.conv(net.relu_norm_conv(x, 8, 12, strides=[2, 2]), 12, 12, bias=False), 12)
    x = net.add("Relu", net.add("Add", net.norm(net.conv(x, 8, 12, 1, strides=[2, 2], bias=False), 12), y))
    return net.head(x, 12)


def mobilenet(net: Layers) -> str:
    """An inverted bottleneck: expansion, depthwise, squeeze and excite, projection; a stride in the second one."""
    low, high = net.constant(0.0, np.float32), net.constant(6.0, np.float32)
    x = net.add("HardSwish", net.norm(net.conv("x", 3, 8, bias=False), 8))
    for stride in (1, 2):
        y = net.add("Clip", net.norm(net.conv(x, 8, 16, 1, bias=False), 16), low, high)
        y = net.norm(net.conv(y, 16, 16, group=16, strides=[stride] * 2, bias=False), 16)
        y = net.add("HardSwish", y)
        squeezed = net.add("Relu", net.conv(net.add("GlobalAveragePool", y), 16, 4, 1))
        y = net.add("Mul", y, net.add("HardSigmoid", net.conv(squeezed, 4, 16, 1), alpha=1 / 6))
        y = net.norm(net.conv(y, 16, 8, 1, bias=False), 8)
        x = net.add("Add", x, y) if stride == 1 else y
    return net.head(x, 8)


def inception(net: Layers) -> str:
    x = net.halved(net.relu_conv("x", 3, 8))
    one = net.relu_conv(x, 8, 4, 1)
    three = net.relu_conv(net.relu_conv(x, 8, 4, 1), 4, 6)
    five = net.relu_conv(net.relu_conv(x, 8, 2, 1), 2, 4, 5)
    pooled = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    return net.head(net.add("Concat", one, three, five, net.relu_conv(pooled, 8, 4, 1), axis=1), 18)


def audio(net: Layers) -> str:
    """Mel bands are channels, time is the one axis: strides, dilation, pooling over time."""
    x = net.conv_1d("x", 10, 16, 5, strides=[2])
    x = net.add("MaxPool", net.conv_1d(x, 16, 16, 3), kernel_shape=[2], strides=[2])
    x = net.conv_1d(x, 16, 24, 3, dilations=[2], pads=[2, 2])
    return net.gemm(net.add("ReduceMean", x, axes=[2], keepdims=0), 24, len(CLASSES))


def transformer(net: Layers) -> str:
    """Embedding, positions, one encoder layer (two heads, pre-norm, GELU), mean over the tokens."""
    tokens, width, heads = 6, 16, 2
    x = net.add("Add", net.dense("x", 8, width), net.weight(tokens, width))
    y = net.layer_norm(x, width)
    split = net.constant([0, tokens, heads, width // heads], np.int64)
    query, key, value = (
        net.add("Transpose", net.add("Reshape", net.dense(y, width, width), split), perm=perm)
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = net.add("Div", net.add("MatMul", query, key), net.constant(np.sqrt(width / heads), np.float32))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), value)
    joined = net.add(
        "Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, tokens, width], np.int64)
    )
    x = net.add("Add", x, net.dense(joined, width, width))
    hidden = net.dense(net.layer_norm(x, width), width, 2 * width)
    bent = net.add("Erf", net.add("Mul", hidden, net.constant(np.sqrt(0.5), np.float32)))
    gate = net.add("Mul", net.add("Add", bent, net.constant(1.0, np.float32)), net.constant(0.5, np.float32))
    x = net.add("Add", x, net.dense(net.add("Mul", hidden, gate), 2 * width, width))
    x = net.add("ReduceMean", net.layer_norm(x, width), axes=[1], keepdims=0)
    return net.gemm(x, width, len(CLASSES))


def recurrent(op: str, gates: int, **attributes: object) -> Callable[[Layers], str]:
    """A layer in both directions over the frames, one in a single direction, the last frame's value."""

    def make(net: Layers) -> str:
        width, hidden = 8, 6
        x = net.add("Transpose", "x", perm=[1, 0, 2])
        for ways, fan_in in ((2, width), (1, 2 * hidden)):
            direction = "bidirectional" if ways == 2 else "forward"
            shapes = ((ways, gates * hidden, fan_in), (ways, gates * hidden, hidden), (ways, 2 * gates * hidden))
            weights = [net.constant(net.rng.uniform(-0.5, 0.5, shape).astype(np.float32)) for shape in shapes]
            x = net.add(op, x, *weights, hidden_size=hidden, direction=direction, **attributes)
            x = net.add("Transpose", x, perm=[0, 2, 1, 3])
            x = net.add("Reshape", x, net.constant([0, 0, ways * hidden], np.int64))
        x = net.add("Gather", net.add("Transpose", x, perm=[1, 0, 2]), net.constant(-1, np.int64), axis=1)
        return net.gemm(x, hidden, len(CLASSES))

    return make


@dataclass(frozen=True)
class Family:
    make: Callable[[Layers], str]
    shape: Shape

    def model(self, seed: int = 0) -> onnx.ModelProto:
        net = Layers(seed)
        return net.model(self.make(net), shape=self.shape)


FAMILIES = {
    "mlp": Family(mlp, (3, 4, 4)),
    "lenet": Family(lenet, (1, 12, 12)),
    "vgg": Family(vgg, (3, 16, 16)),
    "resnet": Family(resnet, (3, 8, 8)),
    "mobilenet": Family(mobilenet, (3, 8, 8)),
    "inception": Family(inception, (3, 12, 12)),
    "audio": Family(audio, (10, 24)),
    "transformer": Family(transformer, (6, 8)),
    "lstm": Family(recurrent("LSTM", 4), (10, 8)),
    "gru": Family(recurrent("GRU", 3, linear_before_reset=1), (10, 8)),
}


def family_set(family: Family, folder: Path, optimizer: OptimizerSpec) -> ArtifactSet:
    """Fuse two members of the family: a Mentor, and a Mentee with other weights."""
    rng = np.random.default_rng(0)
    anchor = folder / "anchor.npz"
    np.savez(anchor, inputs=rng.standard_normal((8, *family.shape)).astype(np.float32), labels=np.arange(8) % 4)
    recipe = Recipe(
        name="family",
        licence="MIT",
        classes=CLASSES,
        anchor=str(anchor),
        input=InputRecipe(kind="image" if len(family.shape) == 3 else "tensor"),
        optimizer=optimizer,
    )
    mentor, mentee = (
        save(family.model(seed), folder, f"{name}.onnx") for seed, name in enumerate(("mentor", "mentee"))
    )
    fuse(mentor, mentee, recipe, folder / "set")
    return open_set(folder / "set")
