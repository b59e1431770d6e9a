"""What in the lowered graph does nothing? Passes that remove it; each says what it requires and ensures.

Each takes the nodes, the graph's outputs and what earlier passes have renamed; it adds what it renames.
"""

from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

_MOST_FOLDED = 1024
"""Elements of a constant that is folded away; more would make the graph larger than the node that it saves."""
_RANDOM = ("Random", "Bernoulli", "Multinomial")

Renamed = dict[str, str]
"""What tensors that are gone are called now."""


def remove_identities(nodes: list[NodeProto], outputs: set[str], renamed: Renamed) -> list[NodeProto]:
    """Requires topological order. Ensures that an Identity is left only where it makes a graph output."""
    kept = []
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    return kept


def share_equal_nodes(nodes: list[NodeProto], outputs: set[str], renamed: Renamed) -> list[NodeProto]:
    """Requires topological order. Ensures that no two nodes compute the same value (graph outputs excepted)."""
    seen: dict[bytes, NodeProto] = {}
    kept = []
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        twin = seen.setdefault(_meaning(node), node)
        if twin is node or outputs.intersection(node.output) or len(twin.output) != len(node.output):
            kept.append(node)
        else:
            renamed.update(zip(node.output, twin.output, strict=True))
    return kept


def _meaning(node: NodeProto) -> bytes:
    """What the node computes: everything but its name and the names of its outputs."""
    anonymous = NodeProto()
    anonymous.CopyFrom(node)
    anonymous.ClearField("name")
    anonymous.ClearField("output")
    attributes = sorted(anonymous.attribute, key=lambda attribute: attribute.name)
    anonymous.ClearField("attribute")
    anonymous.attribute.extend(attributes)
    return bytes(anonymous.SerializeToString(deterministic=True))


def remove_dead_nodes(nodes: list[NodeProto], outputs: set[str], _: Renamed) -> list[NodeProto]:
    """Requires topological order. Ensures that every node leads to a graph output."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def forget_indices(nodes: list[NodeProto], outputs: set[str], _: Renamed) -> list[NodeProto]:
    """Ensures that a MaxPool makes indices only where they are read: without them it takes a tenth of the time."""
    read = outputs.union(name for node in nodes for name in node.input)
    for node in nodes:
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1] not in read:
            del node.output[1:]
    return nodes


def fold_constants(
    nodes: list[NodeProto], outputs: set[str], initializers: dict[str, TensorProto], opset: int
) -> list[NodeProto]:
    """Requires topological order. Ensures that no small node reads constants alone; their values join `initializers`.

    What becomes known here, a board need not compute, and sizes that follow from it are known when it specialises.
    """
    from onnx.reference import ReferenceEvaluator

    kept = []
    for node in nodes:
        known = [initializers.get(name) for name in node.input if name]
        is_small = all(t is not None and not t.external_data and prod(t.dims) <= _MOST_FOLDED for t in known)
        is_random = node.op_type.startswith(_RANDOM)
        if not known or not is_small or is_random or outputs.intersection(node.output):
            kept.append(node)
            continue
        feeds = {name: numpy_helper.to_array(initializers[name]) for name in node.input if name}
        results = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
        for name, value in zip(node.output, results, strict=False):
            initializers[name] = numpy_helper.from_array(np.asarray(value), name)
    return kept


def used_initializers(nodes: list[NodeProto], initializers: dict[str, TensorProto]) -> list[TensorProto]:
    """Return the initializers that some node reads."""
    read = {name for node in nodes for name in node.input}
    return [tensor for name, tensor in initializers.items() if name in read]
