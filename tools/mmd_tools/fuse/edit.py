"""Which small edits of an ONNX graph does everything else here share?"""

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BATCH = "N"
"""Name of the one symbolic dimension."""

Array = NDArray[np.generic]


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def array(tensor: onnx.TensorProto) -> Array:
    return np.asarray(numpy_helper.to_array(tensor))


def add_constant(model: onnx.ModelProto, name: str, value: Array) -> str:
    """Add an initializer under `name`, or under the first free name that begins so; return the name."""
    taken = {tensor.name for tensor in model.graph.initializer} | all_tensors(model)
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}.{number}"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), free))
    return free


def all_tensors(model: onnx.ModelProto) -> set[str]:
    names = {value.name for value in model.graph.input}
    for node in model.graph.node:
        names.update(node.output)
    return names


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def number(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a float attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return float(entry.f)
    return default


def whole(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return int(entry.i)
    return default


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def replace_uses(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let every node that reads `old`, and every graph output called so, read `new`."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
    for output in model.graph.output:
        if output.name == old:
            output.name = new


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def remove_dead(model: onnx.ModelProto) -> None:
    """Drop nodes whose results nothing needs, and initializers that nothing reads."""
    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    replace_nodes(model, reversed(kept))
    for index in reversed(range(len(model.graph.initializer))):
        # One by one: filling the list anew would copy every weight.
        if model.graph.initializer[index].name not in needed:
            del model.graph.initializer[index]


def sort_nodes(model: onnx.ModelProto) -> None:
    """Bring every node behind those that it reads; otherwise the order stays."""
    made_by = {name: index for index, node in enumerate(model.graph.node) for name in node.output if name}
    order: dict[int, None] = {}
    for start in range(len(model.graph.node)):
        stack = [start]
        while stack:
            waits = [made_by[name] for name in model.graph.node[stack[-1]].input if name in made_by]
            if missing := [index for index in waits if index not in order]:
                stack.extend(missing)
            else:
                order[stack.pop()] = None
    replace_nodes(model, [model.graph.node[index] for index in order])


def rename(model: onnx.ModelProto, new_names: dict[str, str]) -> None:
    """Rename tensors everywhere at once."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    for entry in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        entry.name = new_names.get(entry.name, entry.name)


def label(node: onnx.NodeProto) -> str:
    """Return how an error message calls a node."""
    name = node.name or (f"the node that makes {node.output[0]}" if node.output else "without a name")
    return f"{node.op_type} ({name})"


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | str, ...] | None:
    """Return the shape: integers, names, or "?" for what is not known; None without any shape."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?")
        for dim in value.type.tensor_type.shape.dim
    )
