"""Which files do real exporters write? Small networks out of PyTorch's two exporters and out of Keras by tf2onnx.

    python make.py torch      # needs torch 2.13 and onnxscript
    python make.py keras      # needs tensorflow 2.21 and tf2onnx

Beside the networks, NAME.npz holds an input and what the framework itself answered. The weights are random, seeded.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

HERE = Path(__file__).parent
CLASSES = 4
INPUTS = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)


def from_torch() -> None:
    import torch
    from torch import nn

    class Gate(nn.Module):
        """Squeeze and excite."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = nn.functional.adaptive_avg_pool2d(x, 1)
            return x * nn.functional.hardsigmoid(self.up(torch.relu(self.down(pooled))))

    class Mobile(nn.Module):
        """Inverted bottlenecks with a sum, depthwise, ReLU6 and HardSwish, Dropout, a view by size(0)."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
            self.block = nn.Sequential(
                nn.Conv2d(8, 16, 1, bias=False),
                nn.BatchNorm2d(16),
                nn.Hardswish(),
                nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
                nn.BatchNorm2d(16),
                nn.Hardswish(),
                Gate(16),
                nn.Conv2d(16, 8, 1, bias=False),
                nn.BatchNorm2d(8),
            )
            self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8 * 16, CLASSES))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            x = nn.functional.avg_pool2d(x + self.block(x), 2)
            return self.head(x.view(x.size(0), -1))

    class Vit(nn.Module):
        """Patches, a class token, learned positions, one encoder layer of PyTorch's own."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, 4)
            self.token, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
            self.norm = nn.LayerNorm(16)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, _, h, w = x.shape
            x = self.patches(x).reshape(n, 16, (h // 4) * (w // 4)).permute(0, 2, 1)
            x = torch.cat([self.token.expand(n, -1, -1), x], dim=1) + self.places
            y = self.norm(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            x = x + self.mlp(x)
            return self.head(x[:, 0])

    torch.manual_seed(0)
    inputs = torch.from_numpy(INPUTS)
    for name, net in (("mobile", Mobile()), ("vit", Vit())):
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.2)
        net.eval()
        np.savez(HERE / f"torch_{name}.npz", inputs=INPUTS, outputs=net(inputs).detach().numpy())
        for opset in (14, 17, 20) if name == "vit" else (13, 17, 20):
            torch.onnx.export(
                net,
                (inputs,),
                HERE / f"torch_{name}_script_{opset}.onnx",
                dynamo=False,
                opset_version=opset,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )
        for opset in (18, 21):
            path = HERE / f"torch_{name}_dynamo_{opset}.onnx"
            torch.onnx.export(
                net,
                (inputs,),
                path,
                dynamo=True,
                opset_version=opset,
                external_data=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=256)},),
            )
            strip_stories(path)


def strip_stories(path: Path) -> None:
    """Drop the stack traces that the exporter writes to every node: they name the folders of whoever ran it."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def from_keras() -> None:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    x = start = tf.keras.Input((16, 16, 3))
    x = layers.ReLU(max_value=6)(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    x = layers.MaxPooling2D()(x)
    y = layers.Activation("swish")(layers.SeparableConv2D(8, 3, padding="same")(x))
    x = layers.SeparableConv2D(12, 3, strides=2, padding="same", activation="relu")(layers.Add()([x, y]))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    net = tf.keras.Model(start, layers.Dense(CLASSES, activation="softmax")(x))
    convert(net, "keras_net", INPUTS.transpose(0, 2, 3, 1), opsets=(13, 17))
    for name, make, size, divide in (
        ("resnet50", tf.keras.applications.ResNet50, 32, 32),
        ("inception_v3", tf.keras.applications.InceptionV3, 75, 32),
        ("efficientnet_b0", tf.keras.applications.EfficientNetB0, 32, 16),
    ):
        images = np.random.default_rng(0).integers(0, 256, (64, size, size, 3)).astype(np.float32)
        whole = make(weights=None, input_shape=(size, size, 3), classes=CLASSES)
        convert(settled(thinner(whole, divide), images), f"keras_{name}", images[:3], opsets=(15,))


def thinner(net: "tf.keras.Model", divide: int) -> "tf.keras.Model":
    """Return one of Keras's own architectures, node by node, with 1 / `divide` of its channels."""
    import tensorflow as tf

    config = net.get_config()
    for layer in config["layers"]:
        layer.pop("build_config", None)  # the channels that it had
        if layer["class_name"] == "Normalization":  # by 0 and 1, which tf2onnx would make inputs of the network
            layer["class_name"], layer["config"] = "Rescaling", {"name": layer["name"], "scale": 1.0, "offset": 0.0}
        if "filters" in layer["config"]:
            layer["config"]["filters"] = -(-layer["config"]["filters"] // divide)
        if "target_shape" in layer["config"]:  # a gate: (1, 1, channels)
            *places, channels = layer["config"]["target_shape"]
            layer["config"]["target_shape"] = (*places, -(-channels // divide))
    return tf.keras.Model.from_config(config)


def settled(net: "tf.keras.Model", images: np.ndarray) -> "tf.keras.Model":
    """Let BatchNormalization hold the statistics of the images, so that random weights do not fall silent."""
    for layer in net.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    net(images, training=True)
    return net


def convert(net: "tf.keras.Model", name: str, images: np.ndarray, *, opsets: tuple[int, ...]) -> None:
    import tensorflow as tf
    import tf2onnx

    np.savez_compressed(HERE / f"{name}.npz", inputs=images, outputs=net(images, training=False).numpy())
    signature = [tf.TensorSpec([None, *images.shape[1:]], tf.float32, name="x")]
    answer = tf.function(lambda images: net(images, training=False), input_signature=signature)
    for opset in opsets:
        path = HERE / f"{name}_{opset}.onnx"
        tf2onnx.convert.from_function(answer, input_signature=signature, opset=opset, output_path=str(path))


if __name__ == "__main__":
    {"torch": from_torch, "keras": from_keras}[sys.argv[1]]()
