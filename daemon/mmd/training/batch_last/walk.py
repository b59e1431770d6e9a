"""Which nodes of a step graph run with the samples side by side?"""

from collections.abc import Callable
from typing import Any

from onnx import ModelProto, NodeProto

from mmd.training.batch_last import convolutions, elementwise, weight_gradients
from mmd.training.batch_last.images import BatchLast
from mmd.training.rewriting import Rewriting
from mmd.training.walk import Walk

_RULES: dict[str, Callable[[BatchLast, NodeProto], bool]] = {
    "GlobalAveragePool": elementwise.global_average,
    "ReduceSum": elementwise.bias_gradient,
    "Concat": elementwise.concat,
}
"""Rules by operator; all others are element-wise or stay as they are. False: not this one."""


def in_batch_last(model: ModelProto, batch: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing with the samples side by side."""
    graph = Rewriting(model, batch)
    return _InBatchLast(graph, BatchLast(graph, batch)).run()


class _InBatchLast(Walk):
    def __init__(self, graph: Rewriting, images: BatchLast) -> None:
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
