"""How do the samples of a batch get side by side, and apart again? By one transposition of a matrix."""

from mmd.training.images import Images, Size
from mmd.training.rewriting import Rewriting, Shape


class BatchLast(Images):
    """Tensors [n, C, H, W], with twins that lie in memory as [C, H, W, n] and are declared as [1, C, H, W n]."""

    def __init__(self, graph: Rewriting, batch: int) -> None:
        super().__init__(graph)
        self.inner = batch

    def size(self, tensor: str) -> Size | None:
        """Return [n, C, H, W], or None for what is no image of this batch."""
        size = super().size(tensor)
        return size if size is not None and size[0] == self.inner else None

    def lines(self, size: Size) -> int:
        return size[1]

    def declared(self, size: Size) -> Size:
        return (1, *size[1:3], size[3] * self.inner)

    def _converted(self, tensor: str) -> str:
        size = self.size(tensor)
        assert size is not None
        rows = self.graph.reshape(self.plain(tensor), self.inner, -1)
        return self.graph.reshape(self.graph.emit("Transpose", rows, perm=(1, 0)), *self.declared(size))

    def _convert_back(self, tensor: str, size: Size, shape: Shape) -> None:
        columns = self.graph.reshape(self.names[tensor], -1, self.inner)
        self.graph.reshape(self.graph.emit("Transpose", columns, perm=(1, 0)), *shape, out=tensor)
