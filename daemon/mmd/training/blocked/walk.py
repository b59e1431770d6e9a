"""Which nodes of a step graph run in blocks?"""

from collections.abc import Callable
from typing import Any

from onnx import ModelProto, NodeProto

from mmd.training.blocked import convolutions, elementwise, weight_gradients
from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import Rewriting
from mmd.training.walk import Walk

_RULES: dict[str, Callable[[Blocked, NodeProto], bool]] = {
    "GlobalAveragePool": elementwise.global_average,
    "ReduceSum": elementwise.bias_gradient,
    "Concat": elementwise.concat,
}
"""Rules by operator; all others are element-wise or not done in blocks. False: not this one."""


def in_blocks(model: ModelProto, batch: int, block: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing in blocks of `block` channels."""
    graph = Rewriting(model, batch)
    return _InBlocks(graph, Blocked(graph, block)).run(DOMAIN)


class _InBlocks(Walk):
    def __init__(self, graph: Rewriting, images: Blocked) -> None:
        super().__init__(graph, images)
        self._images = images

    def _convolution(self, node: NodeProto, *, has_relu: bool) -> str | None:
        return convolutions.convolution(self._images, node, has_relu=has_relu)

    def _input_gradient(self, mark: dict[str, Any]) -> bool:
        return convolutions.input_gradient(self._images, mark)

    def _weight_gradient(self, mark: dict[str, Any]) -> bool:
        return weight_gradients.weight_gradient(self._images, mark)

    def _other(self, node: NodeProto) -> bool:
        return _RULES.get(node.op_type, elementwise.elementwise)(self._images, node)
