"""What in the lowered graph does nothing? Passes that remove it; each says what it requires and ensures."""

from onnx import NodeProto, TensorProto


def remove_identities(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Requires topological order. Ensures that an Identity is left only where it makes a graph output."""
    renamed: dict[str, str] = {}
    kept = []
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    return kept


def share_equal_nodes(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Requires topological order. Ensures that no two nodes compute the same value (graph outputs excepted)."""
    renamed: dict[str, str] = {}
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


def remove_dead_nodes(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Requires topological order. Ensures that every node leads to a graph output."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def used_initializers(nodes: list[NodeProto], initializers: dict[str, TensorProto]) -> list[TensorProto]:
    """Return the initializers that some node reads."""
    read = {name for node in nodes for name in node.input}
    return [tensor for name, tensor in initializers.items() if name in read]
