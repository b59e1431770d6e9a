"""Which architectures does the product promise as Mentors? The onnx package's files, thinner, and graphs written here.

The files (VGG-19, GoogLeNet, ResNet-50, ...) come without weights, at 224 x 224: every channel count is divided, which
keeps each node and each connection, and the weights are drawn with He's scale. VGG-16 is VGG-19 without the last
convolution of its three deep stages. MobileNetV2 and V3, EfficientNet-Lite and a ViT are written node by node.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tests.tools.whole_nets import Layers

CLASS_COUNT = 10
_LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_FILLER = "ConstantOfShape"
_VGG16_LACKS = ("conv3_4", "conv4_4", "conv5_4")


def light(name: str, *, divide: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Return one of the onnx package's architectures with `CLASS_COUNT` classes and 1/divide of its channels."""
    model = onnx.load(_LIGHT / f"light_{name}.onnx")
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {node.output[0]: tuple(shapes[node.input[0]]) for node in model.graph.node if node.op_type == _FILLER}
    given = {t.name: tuple(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    rng = np.random.default_rng(seed)
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    kept = [node for node in model.graph.node if node.op_type != _FILLER]
    weights = [_drawn(name, _thinner(shape, divide), rng) for name, shape in {**given, **made}.items()]
    weights += [numpy_helper.from_array(_target(_thinner(tuple(shapes[name]), divide)), name) for name in targets]
    inputs = [value for value in model.graph.input if value.name not in shapes]
    inputs[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    for name in ("node", "initializer", "input", "value_info"):
        model.graph.ClearField(name)
    model.graph.node.extend(kept)
    model.graph.initializer.extend(weights)
    model.graph.input.extend(inputs)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.ir_version = 8
    return model


def _thinner(shape: tuple[int, ...], divide: int) -> tuple[int, ...]:
    """Divide the channels, but neither the colours of a picture nor a kernel; 1000 classes become CLASS_COUNT."""
    return tuple(CLASS_COUNT if size == 1000 else int(size) // divide if size > 7 else int(size) for size in shape)


def _target(sizes: tuple[int, ...]) -> np.ndarray:
    """Return what a Reshape reads: the batch is no longer 1."""
    return np.array([-1 if size == 1 else size for size in sizes], np.int64)


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> onnx.TensorProto:
    if len(shape) > 1:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        is_scale = name.endswith(("_s_0", "_scale_0", "_riv_0", "_var_0", "/sc_w_0"))
        value = rng.uniform(0.5, 1.0, shape) if is_scale else 0.05 * rng.standard_normal(shape)
    return numpy_helper.from_array(value.astype(np.float32), name)


def vgg16() -> onnx.ModelProto:
    model = light("vgg19", divide=16)
    kept, stands_for = [], {}
    for node in model.graph.node:
        node.input[0] = stands_for.get(node.input[0], node.input[0])
        is_left_out = node.op_type == "Conv" and node.input[1].startswith(_VGG16_LACKS)
        if is_left_out or node.input[0] not in {name for each in kept for name in each.output} | {"data_0"}:
            stands_for[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


class Exported(Layers):
    """Layers in the words that exporters use for the blocks of the MobileNet family."""

    def bottleneck(
        self, x: str, widths: tuple[int, int, int], act: str, *, kernel: int = 3, stride: int = 1, gate: bool = False
    ) -> str:
        """Expand, depthwise, perhaps squeeze and excite, project; a sum where the shapes allow it."""
        fan_in, middle, fan_out = widths
        y = self.act(act, self.norm(self.conv(x, fan_in, middle, 1, bias=False), middle))
        y = self.conv(y, middle, middle, kernel, group=middle, strides=[stride] * 2, bias=False)
        y = self.act(act, self.norm(y, middle))
        if gate:
            small = self.add("Relu", self.conv(self.add("GlobalAveragePool", y), middle, 4, 1))
            y = self.add("Mul", y, self.add("HardSigmoid", self.conv(small, 4, middle, 1), alpha=1 / 6))
        y = self.norm(self.conv(y, middle, fan_out, 1, bias=False), fan_out)
        return self.add("Add", x, y) if stride == 1 and fan_in == fan_out else y

    def act(self, act: str, x: str) -> str:
        if act == "relu6":
            return self.add("Clip", x, self.constant(0.0, np.float32), self.constant(6.0, np.float32))
        return self.add(act, x)

    def stem(self, width: int, act: str) -> str:
        return self.act(act, self.norm(self.conv("x", 3, width, strides=[2, 2], bias=False), width))

    def head_of(self, x: str, width: int) -> str:
        return self.gemm(self.add("Flatten", self.add("GlobalAveragePool", x), out="flat"), width, CLASS_COUNT)

    def named(self, name: str, x: str) -> str:
        return self.add("Relu", x, out=name)


def mobilenet_v2(net: Exported) -> str:
    """ReLU6, linear bottlenecks, ReduceMean for a head."""
    x = net.stem(8, "relu6")
    for widths, stride in (((8, 8, 8), 1), ((8, 48, 12), 2), ((12, 72, 12), 1), ((12, 72, 16), 2), ((16, 96, 16), 1)):
        x = net.bottleneck(x, widths, "relu6", stride=stride)
    x = net.named("features", net.norm(net.conv(x, 16, 32, 1, bias=False), 32))
    return net.gemm(net.add("ReduceMean", x, axes=[2, 3], keepdims=0), 32, CLASS_COUNT)


def mobilenet_v3(net: Exported) -> str:
    """HardSwish, squeeze and excite by HardSigmoid, kernels of 5, a hidden layer before the last one."""
    x = net.stem(8, "HardSwish")
    x = net.bottleneck(x, (8, 8, 8), "Relu", stride=2, gate=True)
    x = net.bottleneck(x, (8, 32, 12), "Relu", kernel=5, stride=2)
    x = net.bottleneck(x, (12, 48, 12), "HardSwish", kernel=5, gate=True)
    x = net.named("features", net.norm(net.conv(x, 12, 32, 1, bias=False), 32))
    x = net.add("HardSwish", net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 32, 24))
    return net.gemm(net.add("Dropout", x), 24, CLASS_COUNT)


def efficientnet_lite(net: Exported) -> str:
    """ReLU6 and no gates: what EfficientNet-Lite took out of EfficientNet."""
    x = net.stem(8, "relu6")
    for widths, kernel, stride in (((8, 8, 8), 3, 1), ((8, 48, 12), 3, 2), ((12, 72, 12), 3, 1), ((12, 72, 16), 5, 2)):
        x = net.bottleneck(x, widths, "relu6", kernel=kernel, stride=stride)
    x = net.named("features", net.norm(net.conv(x, 16, 40, 1, bias=False), 40))
    return net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 40, CLASS_COUNT)


def vit(net: Exported) -> str:
    """Patches, a class token, positions, two encoder layers with one product for query, key and value."""
    width, heads, tokens = 24, 3, 17
    x = net.add("Conv", "x", net.weight(width, 3, 8, 8), net.weight(width), strides=[8, 8])
    batch = net.add("Slice", net.add("Shape", x), *(net.constant([at], np.int64) for at in (0, 1)))
    x = net.add("Reshape", x, net.add("Concat", batch, net.constant([width, -1], np.int64), axis=0))
    x = net.add("Transpose", x, perm=[0, 2, 1])
    token = net.constant(net.rng.standard_normal((1, 1, width)).astype(np.float32))
    token = net.add("Expand", token, net.add("Concat", batch, net.constant([1, width], np.int64), axis=0))
    places = net.constant(0.1 * net.rng.standard_normal((1, tokens, width)).astype(np.float32))
    x = net.add("Add", net.add("Concat", token, x, axis=1), places)
    for _ in range(2):
        x = _encoder_layer(net, x, batch, width, heads)
    x = net.add("Gather", net.layer_norm(x, width), net.constant(0, np.int64), axis=1, out="features")
    return net.gemm(x, width, CLASS_COUNT)


def _encoder_layer(net: Exported, x: str, batch: str, width: int, heads: int) -> str:
    y = net.dense(net.layer_norm(x, width), width, 3 * width)
    split = net.add("Concat", batch, net.constant([-1, 3, heads, width // heads], np.int64), axis=0)
    y = net.add("Transpose", net.add("Reshape", y, split), perm=[2, 0, 3, 1, 4])
    query, key, value = (net.add("Gather", y, net.constant(part, np.int64), axis=0) for part in range(3))
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2]))
    scores = net.add("Mul", scores, net.constant((width / heads) ** -0.5, np.float32))
    y = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.add("Concat", batch, net.constant([-1, width], np.int64), axis=0))
    x = net.add("Add", x, net.dense(y, width, width))
    hidden = net.dense(net.layer_norm(x, width), width, 2 * width)
    bent = net.add("Erf", net.add("Div", hidden, net.constant(np.sqrt(2), np.float32)))
    gate = net.add("Mul", net.add("Add", bent, net.constant(1.0, np.float32)), net.constant(0.5, np.float32))
    return net.add("Add", x, net.dense(net.add("Mul", hidden, gate), 2 * width, width))


def _written(make: Callable[[Exported], str]) -> Callable[[], onnx.ModelProto]:
    def model() -> onnx.ModelProto:
        net = Exported(0)
        return net.model(make(net), shape=(3, 32, 32), classes=CLASS_COUNT)

    return model


def mentee(size: int) -> onnx.ModelProto:
    """Two convolutions for pictures of `size` pixels; `hidden` is a map of an eighth of that, `flat` a row."""
    net = Exported(1)
    x = net.add("Relu", net.conv("x", 3, 8, 5, strides=[4, 4]))
    x = net.add("Relu", net.conv(x, 8, 12, strides=[2, 2]), out="hidden")
    return net.model(net.head_of(x, 12), shape=(3, size, size), classes=CLASS_COUNT)


ARCHITECTURES: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "VGG-16": (vgg16, "r31"),
    "VGG-19": (lambda: light("vgg19", divide=16), "r35"),
    "GoogLeNet (Inception v1)": (lambda: light("inception_v1"), "r136"),
    "Inception v2": (lambda: light("inception_v2"), "r503"),
    "ResNet-50": (lambda: light("resnet50", divide=16), "r171"),
    "MobileNetV2": (_written(mobilenet_v2), "features"),
    "MobileNetV3": (_written(mobilenet_v3), "features"),
    "EfficientNet-Lite": (_written(efficientnet_lite), "features"),
    "ViT": (_written(vit), "features"),
}
"""How each is made, and a tensor of it to probe."""
