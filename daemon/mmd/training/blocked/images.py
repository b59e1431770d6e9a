"""In which layout is a tensor there? Each is converted where an operator cannot do without, once each way."""

from typing import Any

from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import Rewriting, Shape

Size = tuple[int, int, int, int]

_MOST_WASTE = 1.5
"""A tensor is blocked when rounding its channels up costs at most this factor."""


class Images:
    """The tensors of a graph, each in one layout or both."""

    def __init__(self, graph: Rewriting, block: int) -> None:
        self.graph, self.block = graph, block
        self.names: dict[str, str] = {}
        """The blocked twin of a tensor, by the tensor's name."""
        self.only_blocked: set[str] = set()

    def size(self, tensor: str) -> Size | None:
        """Return [n, C, H, W], or None for what is no image of known size."""
        return as_image(self.graph.shapes.get(tensor))

    def padded(self, channels: int) -> int:
        return -(-channels // self.block) * self.block

    def fits(self, channels: int) -> bool:
        """Tell whether blocks of so many channels pay, and the runtime can make them."""
        return channels % 4 == 0 and self.padded(channels) <= _MOST_WASTE * channels

    def blocked(self, tensor: str) -> str:
        """Return the blocked twin, reordering when there is none yet."""
        if tensor not in self.names:
            self.names[tensor] = self.graph.emit("ReorderInput", self.plain_image(tensor), domain=DOMAIN)
        return self.names[tensor]

    def plain(self, tensor: str) -> str:
        """Return the tensor itself, reordering when only its blocked twin is there."""
        if tensor in self.only_blocked:
            size, shape = self.size(tensor), self.graph.shapes[tensor]
            assert size is not None and shape is not None
            self.only_blocked.remove(tensor)
            out = tensor if shape == size else None
            image = self.graph.emit("ReorderOutput", self.names[tensor], out=out, domain=DOMAIN, channels=size[1])
            if out is None:
                self.graph.reshape(image, *shape, out=tensor)
        return tensor

    def plain_image(self, tensor: str) -> str:
        """Return the tensor itself, as an image also where it is a sequence."""
        size = self.size(tensor)
        assert size is not None
        plain = self.plain(tensor)
        return plain if self.graph.shapes[tensor] == size else self.graph.reshape(plain, *size)

    def define(self, tensor: str, twin: str) -> None:
        """Say that `twin` is `tensor`, blocked."""
        self.names[tensor] = twin
        self.only_blocked.add(tensor)


def as_image(shape: Shape | None) -> Size | None:
    """[n, C, H, W] of an image, or of a sequence [n, C, L] as an image one row high."""
    if shape is None or len(shape) not in (3, 4):
        return None
    return (shape[0], shape[1], shape[-2] if len(shape) == 4 else 1, shape[-1])


def pair(values: Any) -> tuple[int, int]:
    """Strides, dilations or a kernel as two numbers; a sequence is an image one row high."""
    numbers = tuple(int(value) for value in values or (1, 1))
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def image_pads(values: Any) -> Size:
    """Pads as [top, left, bottom, right]."""
    numbers = tuple(int(value) for value in values or (0,) * 4)
    if len(numbers) == 2:
        return (0, numbers[0], 0, numbers[1])
    return (numbers[0], numbers[1], numbers[2], numbers[3])
