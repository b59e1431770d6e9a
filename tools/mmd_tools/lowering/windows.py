"""How does a kernel slide over its input? Strides, pads and sizes resolved, and the padding that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmd_tools.lowering.emitter import Emitter

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """How a kernel slides: one entry a spatial dimension."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begins: Sizes
    """Padding before; what is missing after follows from `inputs` and `outputs`."""
    inputs: Sizes
    outputs: Sizes

    @property
    def reach(self) -> Sizes:
        """How much of the padded input the windows touch."""
        return tuple(
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(self.outputs, self.strides, self.dilations, self.kernel, strict=True)
        )

    @property
    def ends(self) -> Sizes:
        """Padding after that the windows touch; negative where the last rows of the input are never read."""
        return tuple(r - b - i for r, b, i in zip(self.reach, self.begins, self.inputs, strict=True))

    @property
    def as_mark(self) -> dict[str, Any]:
        """What a board needs to know to find its own way to the gradients."""
        return {
            "kernel": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begins, *self.ends),
        }

    @property
    def transposed(self) -> dict[str, Any]:
        """Attributes of the ConvTranspose that spreads outputs back over the inputs."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begins, *(max(0, end) for end in self.ends)),
            "output_padding": [max(0, -end) for end in self.ends],
        }


def window_of(attributes: dict[str, Any], kernel: Sizes, inputs: Sizes) -> Window:
    """Resolve strides, dilations, `auto_pad` and the output size of a convolution or pooling."""
    rank = len(kernel)
    strides = tuple(attributes.get("strides") or (1,) * rank)
    dilations = tuple(attributes.get("dilations") or (1,) * rank)
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
    auto_pad = attributes.get("auto_pad", "NOTSET")
    begins, outputs = [], []
    for axis in range(rank):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            output = -(-inputs[axis] // strides[axis])
            total = max(0, (output - 1) * strides[axis] + span - inputs[axis])
            begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
        else:
            begin, end = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[rank + axis])
            room = inputs[axis] + begin + end - span
            output = (-(-room // strides[axis]) if attributes.get("ceil_mode") else room // strides[axis]) + 1
            # A window that would start in the padding after the input is left out.
            if attributes.get("ceil_mode") and (output - 1) * strides[axis] >= inputs[axis] + begin:
                output -= 1
        begins.append(begin)
        outputs.append(output)
    return Window(kernel, strides, dilations, tuple(begins), inputs, tuple(outputs))


def pad(e: Emitter, tensor: str, begins: Sequence[int], ends: Sequence[int]) -> str:
    """Pad (or, where negative, crop) the spatial axes."""
    if not any((*begins, *ends)):
        return tensor
    return e.emit("Pad", tensor, e.integers(0, 0, *begins, 0, 0, *ends))
