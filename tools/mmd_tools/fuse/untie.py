"""Which weights does an exporter store once, though the network has them more than once?"""

import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.operators import WEIGHT_SLOTS


def untie(model: onnx.ModelProto) -> None:
    """Give every node a bias or scale of its own: exporters store equal ones once, and training would tie them."""
    vectors = {tensor.name: tensor for tensor in model.graph.initializer if sum(size > 1 for size in tensor.dims) == 1}
    seen: set[str] = set()
    for node in model.graph.node:
        for slot in WEIGHT_SLOTS.get(node.op_type, ()):
            name = node.input[slot] if slot < len(node.input) else ""
            if name in seen and vectors[name].data_type == onnx.TensorProto.FLOAT:
                node.input[slot] = edit.add_constant(model, name, edit.array(vectors[name]))
            if name in vectors:
                seen.add(name)
