"""Which nodes of a step graph run with the samples side by side?"""

from onnx import ModelProto

from mmd.training.batch_last import convolutions, elementwise, weight_gradients
from mmd.training.batch_last.images import BatchLast
from mmd.training.rewriting import Rewriting
from mmd.training.walk import Rules, Walk

_RULES = Rules[BatchLast](
    convolution=convolutions.convolution,
    input_gradient=convolutions.input_gradient,
    weight_gradient=weight_gradients.weight_gradient,
    by_operator={
        "GlobalAveragePool": elementwise.global_average,
        "ReduceSum": elementwise.bias_gradient,
        "Concat": elementwise.concat,
    },
    other=elementwise.elementwise,
)


def in_batch_last(model: ModelProto, batch: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing with the samples side by side."""
    graph = Rewriting(model, batch)
    return Walk(graph, BatchLast(graph, batch), _RULES).run()
