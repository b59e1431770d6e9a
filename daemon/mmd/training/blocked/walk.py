"""Which nodes of a step graph run in blocks?"""

from onnx import ModelProto

from mmd.training.blocked import convolutions, elementwise, weight_gradients
from mmd.training.blocked.images import Blocked
from mmd.training.blocks import DOMAIN
from mmd.training.rewriting import Rewriting
from mmd.training.walk import Rules, Walk

_RULES = Rules[Blocked](
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


def in_blocks(model: ModelProto, batch: int, block: int) -> ModelProto:
    """Return the step graph `model` for batches of `batch`, computing in blocks of `block` channels."""
    graph = Rewriting(model, batch)
    return Walk(graph, Blocked(graph, block), _RULES).run(DOMAIN)
