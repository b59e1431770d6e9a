"""What does a network compute from shapes alone? Found by running it with two batch sizes; what both agree on is fixed.

Exporters write view(batch, -1), a square root of the head's width, or the shape of a class token as arithmetic on
Shape. No sample can change any of it, so it needs no place in the graph; only the batch itself stays open.
"""

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit

_TWO_BATCHES = (2, 3)
_LARGEST = 64
"""Entries; a bigger tensor is data, not a shape."""


def settle_by_running(model: onnx.ModelProto) -> bool:
    """Make constants of what follows from shapes alone; True when something changed."""
    derived = _from_shapes(model)
    if not derived:
        return False
    first, second = (_values(model, derived, batch) for batch in _TWO_BATCHES)
    fixed = {name: value for name, value in first.items() if _are_equal(value, second.get(name))}
    for name, value in fixed.items():
        edit.replace_uses(model, name, edit.add_constant(model, f"{name}.settled", value))
    open_ones = first.keys() & second.keys() - fixed.keys()
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"} & open_ones
    freed = {name: _free_target(first[name], second[name]) for name in targets}
    for node in model.graph.node:
        target = freed.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None:
            node.input[1] = edit.add_constant(model, f"{node.output[0]}.shape", target)
    edit.remove_dead(model)
    return bool(fixed) or any(target is not None for target in freed.values())


def _from_shapes(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that no value of the input reaches, in the order of computation."""
    constant = set(edit.constants(model))
    derived: dict[str, None] = {}
    for node in model.graph.node:
        reads = [name for name in node.input if name]
        if node.op_type == "Shape" or (reads and all(name in derived or name in constant for name in reads)):
            derived.update(dict.fromkeys(name for name in node.output if name))
    return list(derived)


def _values(model: onnx.ModelProto, names: list[str], batch: int) -> dict[str, edit.Array]:
    """Run the network on zeros and return the small ones of these tensors."""
    from mmd.artifact.session import open_session
    from mmd.errors import ArtifactRefused

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    del probe.graph.value_info[:]
    edit.remove_dead(probe)
    value = model.graph.input[0]
    sizes = [dim for dim in edit.dimensions(value) or () if isinstance(dim, int)]
    try:
        session = open_session(probe.SerializeToString())
        results = session.run(names, {value.name: np.zeros((batch, *sizes), np.float32)})
    except ArtifactRefused as error:
        raise Unfit(f"the runtime refuses it: {error}") from error
    except Exception as error:  # the runtime's exceptions share no base class below Exception
        raise Unfit(f"it does not run with a batch of {batch}: {str(error).splitlines()[0]}") from error
    return {name: result for name, result in zip(names, results, strict=True) if result.size <= _LARGEST}


def _are_equal(one: edit.Array, other: edit.Array | None) -> bool:
    return other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _free_target(one: edit.Array, other: edit.Array) -> edit.Array | None:
    """Return the target of a Reshape with -1 for the one size that follows the batch; None when two do."""
    differs = np.flatnonzero(one != other) if one.shape == other.shape else np.arange(2)
    if len(differs) != 1 or (one == -1).any():
        return None
    target = one.copy()
    target[differs[0]] = -1
    return target


def repeat_by_adding(model: onnx.ModelProto) -> None:
    """Say a constant that is repeated for every sample (a class token) as zeros [N, 1, ...] plus the constant."""
    tensors = edit.constants(model)
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        tensor = tensors.get(node.input[0]) if node.op_type == "Expand" else None
        kept.extend(_added(model, node, len(tensor.dims)) if tensor is not None and tensor.dims[:1] == [1] else [node])
    edit.replace_nodes(model, kept)


def _added(model: onnx.ModelProto, node: onnx.NodeProto, rank: int) -> list[onnx.NodeProto]:
    out = node.output[0]
    ones = edit.add_constant(model, f"{out}.ones", np.ones(rank - 1, np.int64))
    return [
        helper.make_node("Shape", [model.graph.input[0].name], [f"{out}.batch"], start=0, end=1),
        helper.make_node("Concat", [f"{out}.batch", ones], [f"{out}.sizes"], axis=0),
        helper.make_node("ConstantOfShape", [f"{out}.sizes"], [f"{out}.zeros"]),
        helper.make_node("Add", [f"{out}.zeros", node.input[0]], [out]),
    ]
