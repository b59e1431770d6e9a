"""How does a tensor get into blocks of channels, and out of them?"""

from mmd.training.blocks import DOMAIN
from mmd.training.images import Images, Size
from mmd.training.rewriting import Rewriting, Shape

_MOST_WASTE = 1.5
"""A tensor is blocked when rounding its channels up costs at most this factor."""


class Blocked(Images):
    """Tensors [n, C, H, W], with twins that lie in memory as [n, C / block, H, W, block]."""

    def __init__(self, graph: Rewriting, block: int) -> None:
        super().__init__(graph)
        self.block = self.inner = block

    def lines(self, size: Size) -> int:
        return size[0] * self.padded(size[1]) // self.block

    def declared(self, size: Size) -> Size:
        return (size[0], self.padded(size[1]), *size[2:])

    def padded(self, channels: int) -> int:
        return -(-channels // self.block) * self.block

    def fits(self, channels: int) -> bool:
        """Tell whether blocks of so many channels pay, and the runtime can make them."""
        return channels % 4 == 0 and self.padded(channels) <= _MOST_WASTE * channels

    def plain_image(self, tensor: str) -> str:
        """Return the tensor itself, as an image also where it is a sequence."""
        size = self.size(tensor)
        assert size is not None
        plain = self.plain(tensor)
        return plain if self.graph.shapes[tensor] == size else self.graph.reshape(plain, *size)

    def _converted(self, tensor: str) -> str:
        return self.graph.emit("ReorderInput", self.plain_image(tensor), domain=DOMAIN)

    def _convert_back(self, tensor: str, size: Size, shape: Shape) -> None:
        out = tensor if shape == size else None
        image = self.graph.emit("ReorderOutput", self.names[tensor], out=out, domain=DOMAIN, channels=size[1])
        if out is None:
            self.graph.reshape(image, *shape, out=tensor)
