"""Which operators stand in the training graphs in another form? Those whose gradient the training tools lack.

`mentee.onnx` keeps them as they are. AveragePool, ConvTranspose and Resize: their gradients fail or are missing in
onnxruntime-training 1.19.2. LayerNormalization's gradient reads the mean and the deviation, which are outputs of the
node that inference leaves out. Dropout is a product with a mask that is an input: every engine drops the same values,
and a micro-batch its own rows.
"""

import onnx

from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.pooling import average, window_of
from mmd_tools.fuse.upsampling import resize, transposed_convolution


def trained_form(mentee: Network, nodes: Nodes) -> list[onnx.NodeProto]:
    """Return the Mentee's nodes in the form that can be trained; constants go to `nodes`."""
    kept: list[onnx.NodeProto] = []
    masks = iter(mentee.dropouts)
    for node in mentee.model.graph.node:
        if node.op_type == "Dropout":
            kept.append(onnx.helper.make_node("Mul", [node.input[0], next(masks).name], node.output, name=node.name))
        elif node.op_type == "LayerNormalization":
            kept.append(_with_statistics(node))
        elif node.op_type in ("AveragePool", "ConvTranspose", "Resize"):
            own = Nodes(f"{node.name}/")
            _in_other_words(own, mentee, node)
            kept.extend(own.nodes)
            nodes.initializers.extend(own.initializers)
        else:
            kept.append(node)
    return kept


def _in_other_words(nodes: Nodes, mentee: Network, node: onnx.NodeProto) -> None:
    x, out = node.input[0], node.output[0]
    before = mentee.input_shape if x == mentee.input else mentee.shapes[x]
    after = mentee.shapes[out]
    if node.op_type == "AveragePool":
        average(nodes, x, before, after, window_of(node, before[1:], after[1:]), out=out)
    elif node.op_type == "ConvTranspose":
        transposed_convolution(nodes, mentee.model, node, before, after)
    else:
        resize(nodes, mentee.model, node, before, after)


def _with_statistics(node: onnx.NodeProto) -> onnx.NodeProto:
    whole = onnx.NodeProto()
    whole.CopyFrom(node)
    whole.output[:] = [node.output[0], f"{node.name}/mean", f"{node.name}/inverse_deviation"]
    return whole
