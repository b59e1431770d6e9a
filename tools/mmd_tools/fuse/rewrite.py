"""Which passes tidy an exported network? One function a pass."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mmd_tools.fuse import edit


class Unfit(Exception):
    """The network cannot be brought to the form; the message says which node or tensor, and what would help."""


def drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Old exporters list the weights among the inputs; keep the real inputs only."""
    weights = edit.constants(model)
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    # Up to IR version 3 the checker demands the old style.
    model.ir_version = max(model.ir_version, 4)


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers."""
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            kept.append(node)
            continue
        entry = node.attribute[0]
        if entry.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(entry.t)
            tensor.name = node.output[0]
        elif entry.name in ("value_int", "value_ints"):
            tensor = numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.int64), node.output[0])
        elif entry.name in ("value_float", "value_floats"):
            tensor = numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.float32), node.output[0])
        else:
            raise Unfit(f"{edit.label(node)} holds a {entry.name}; only numbers fit.")
        model.graph.initializer.append(tensor)
    edit.replace_nodes(model, kept)


def cut_trailing_softmax(model: onnx.ModelProto) -> None:
    """Make the input of a last Softmax or LogSoftmax the output: the losses need logits."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(graph.output[0].name)
    while node is not None and node.op_type in ("Softmax", "LogSoftmax", "Identity"):
        name_output(model, node.input[0])
        node = makers.get(node.input[0])
    edit.remove_dead(model)


def flatten_logits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make logits [N, classes, 1, 1], as a network that ends in a pool has them, one row a sample; return the model."""
    output = model.graph.output[0]
    dims = edit.dimensions(output) or ()
    if len(dims) > 2 and all(dim == 1 for dim in dims[2:]):
        name = f"{output.name}.flat"
        model.graph.node.append(helper.make_node("Flatten", [output.name], [name], axis=1))
        name_output(model, name)
    return model


def drop_identities(model: onnx.ModelProto, *, keep_dropout: bool) -> dict[str, str]:
    """Remove Identity and, unless it is to be trained, Dropout; return what each removed tensor is called now."""
    gone: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Dropout" and keep_dropout:
            kept.append(_plain_dropout(model, node))
        elif node.op_type in ("Identity", "Dropout"):
            gone[node.output[0]] = gone.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    edit.replace_nodes(model, kept)
    for old, new in gone.items():
        edit.replace_uses(model, old, new)
    return gone


def _plain_dropout(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.NodeProto:
    """Return the Dropout as inference has it, which passes everything, with its ratio as a constant beside it."""
    if len(node.output) > 1 and node.output[1]:
        raise Unfit(f"{edit.label(node)} gives out its mask {node.output[1]}; only its values can be used.")
    ratio = dropout_ratio(model, node)
    if not 0 <= ratio < 1:
        raise Unfit(f"{edit.label(node)} drops a share of {ratio}; it must be from 0 to below 1.")
    name = edit.add_constant(model, f"{node.output[0]}.ratio", np.array(ratio, np.float32))
    return helper.make_node("Dropout", [node.input[0], name], [node.output[0]], name=node.name)


def dropout_ratio(model: onnx.ModelProto, node: onnx.NodeProto) -> float:
    """Return the share that a Dropout drops. Raises `Unfit` where it is computed."""
    if len(node.input) < 2 or not node.input[1]:
        return 0.5
    tensor = edit.constants(model).get(node.input[1])
    if tensor is None:
        raise Unfit(f"{edit.label(node)} takes its ratio {node.input[1]} from the graph; it must be a constant.")
    return float(edit.array(tensor))


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: the gradient builder tells nodes apart by it."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def name_output(model: onnx.ModelProto, name: str) -> None:
    """Make `name` the one output, of a shape that inference will find."""
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    del model.graph.output[:]
    model.graph.output.append(output)
