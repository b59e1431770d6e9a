"""In which layout is a tensor there? Each is converted where an operator cannot do without, once each way."""

from abc import ABC, abstractmethod
from typing import Any

from mmd.training.rewriting import Rewriting, Shape

Size = tuple[int, int, int, int]


class Images(ABC):
    """The tensors of a graph: plain, as a twin in another layout, or both.

    A twin lies in memory as [lines, H, W, inner]; a sequence [n, C, L] is an image one row high.
    """

    inner: int
    """How many numbers of one place lie side by side."""

    def __init__(self, graph: Rewriting) -> None:
        self.graph = graph
        self.names: dict[str, str] = {}
        """The twin of a tensor, by the tensor's name."""
        self.only_twins: set[str] = set()

    @abstractmethod
    def lines(self, size: Size) -> int:
        """Return how many pictures of `inner` numbers a place the twin of a tensor of `size` is."""

    @abstractmethod
    def declared(self, size: Size) -> Size:
        """Return the shape that the twin of a tensor of `size` has for the runtime."""

    def size(self, tensor: str) -> Size | None:
        """Return [n, C, H, W], or None for what is no image of known size."""
        return as_image(self.graph.shapes.get(tensor))

    def twin(self, tensor: str) -> str:
        """Return the twin, converting when there is none yet."""
        if tensor not in self.names:
            self.names[tensor] = self._converted(tensor)
        return self.names[tensor]

    def plain(self, tensor: str) -> str:
        """Return the tensor itself, converting when only its twin is there."""
        if tensor in self.only_twins:
            size, shape = self.size(tensor), self.graph.shapes[tensor]
            assert size is not None and shape is not None
            self.only_twins.remove(tensor)
            self._convert_back(tensor, size, shape)
        return tensor

    def define(self, tensor: str, twin: str) -> None:
        """Say that `twin` is `tensor`, in the other layout."""
        self.names[tensor] = twin
        self.only_twins.add(tensor)

    @abstractmethod
    def _converted(self, tensor: str) -> str:
        """Make the twin of a tensor; return its name."""

    @abstractmethod
    def _convert_back(self, tensor: str, size: Size, shape: Shape) -> None:
        """Make the tensor itself from its twin."""


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
