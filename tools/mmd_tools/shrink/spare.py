"""How does a Mentee get outputs for classes that its owner will name? Rows of 0 behind those of its logits."""

import numpy as np
import onnx
from onnx import numpy_helper

from mmd.errors import UsageError
from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network
from mmd_tools.shrink.groups import trace_channels


def with_spare_outputs(network: Network, count: int) -> onnx.ModelProto:
    """Return the network with `count` more logits, each 0 whatever the input, until they are trained.

    Raises `UsageError` where the logits are not the channels of a convolution or of a product with a weight.
    """
    channels = trace_channels(network)
    logits = channels.roots(channels.of.get(network.logits, np.zeros(0, np.int64)))
    made = {int(root) for _, numbers in channels.made_by for root in channels.roots(numbers)}
    if len(set(logits.tolist())) != network.classes or not made.issuperset(logits.tolist()):
        raise UsageError(
            f"No spare outputs can be added to {network.source}: its logits {network.logits} come from no layer with a "
            "weight of its own for each class; set `spare_classes` to 0, or add them before exporting."
        )
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    tensors = edit.constants(model)
    for weight in channels.weights:
        value = edit.array(tensors[weight.name])
        for axis, numbers in weight.axes.items():
            if set(channels.roots(numbers).tolist()) == set(logits.tolist()):
                value = np.pad(value, [(0, count if at == axis else 0) for at in range(value.ndim)])
        tensors[weight.name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), weight.name))
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.output[0] == network.logits:
            target = np.array([-1, network.classes + count], np.int64)
            node.input[1] = edit.add_constant(model, f"{network.logits}.shape", target)
    for dim in model.graph.output[0].type.tensor_type.shape.dim[1:]:
        dim.dim_value = network.classes + count
    del model.graph.value_info[:]
    return model
