"""How much memory does one step need? An estimate from shapes and lifetimes, for the manifest.

Counted: every tensor between the node that makes it and the last node that reads it (the peak over the graph's own
order), the weights inside the graph, and what the engine holds: parameters, two moments and, for `ort_training`, one
gradient each; for `portable` a second set of parameters and moments, because a step writes beside what it reads.
Not counted: the runtime itself, the batch before it is fed, and the Mentor's session.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.edit import BATCH

COPIES = {"ort_training": 4, "portable": 6}
"""How often the engine holds something of the parameters' size."""

SLACK = {"ort_training": 1.0, "portable": 1.7}
"""What the runtime needs for activations, at most, per byte alive in the graph's own order.

Seen with batches of 16 to 128 on a net of three convolutions: `portable` 1.6, because the runtime runs the backward
half in an order of its own and holds scratch memory; `ort_training` 0.6, because its kernels work in place.
"""


def step_bytes(model: onnx.ModelProto, parameters: Sequence[str], batch: int, *, engine: str) -> int:
    """Return the estimated peak of one step of `model` at `batch` samples."""
    sizes = _tensor_bytes(model, batch)
    held = {value.name: value for value in model.graph.input}
    weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    parameter_bytes = sum(sizes.get(name, 0) for name in parameters)
    ends = {value.name for value in model.graph.output}
    last_use = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    live = sum(sizes.get(name, 0) for name in held if _is_batch(held[name]))
    peak = live
    for index, node in enumerate(model.graph.node):
        live += sum(sizes.get(name, 0) for name in node.output if name)
        peak = max(peak, live)
        for name in {*node.input, *node.output}:
            is_made_here = name not in held and name not in ends
            if is_made_here and last_use.get(name, index) == index:
                live -= sizes.get(name, 0)
    return int(SLACK[engine] * peak + weights + COPIES[engine] * parameter_bytes)


def _is_batch(value: onnx.ValueInfoProto) -> bool:
    return BATCH in (edit.dimensions(value) or ())


def _tensor_bytes(model: onnx.ModelProto, batch: int) -> dict[str, int]:
    """Return the size of every tensor with a known shape; what has none is taken to be like its largest input."""
    graph = _with_batch(model, batch).graph
    sizes = {tensor.name: _bytes(tensor.data_type, list(tensor.dims)) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = [dim for dim in edit.dimensions(value) or ("?",) if isinstance(dim, int)]
        if len(dims) == len(edit.dimensions(value) or ("?",)):
            sizes[value.name] = _bytes(value.type.tensor_type.elem_type, dims)
    for node in graph.node:
        for name in node.output:
            if name not in sizes:
                sizes[name] = max((sizes.get(source, 0) for source in node.input), default=0)
    return sizes


def _bytes(element_type: int, dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64)) * int(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)


def _with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return a copy with the batch filled in and as many shapes known as follow from it."""
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    for value in [*filled.graph.input, *filled.graph.value_info, *filled.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == BATCH:
                dim.dim_value = batch
    try:
        return onnx.shape_inference.infer_shapes(filled, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return filled
