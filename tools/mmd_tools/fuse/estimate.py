"""How much memory does one step take? Its tensors' lives in the runtime's own order, for the manifest.

The figure is by how much the resident memory of a process grows at most during its first steps, once it has opened the
set for training: what the runtime's arena touches, and what the engine touches for the first time (the buffers that the
portable engine's step writes beside those that it reads, onnxruntime-training's gradients). Not in it are the runtime
itself, the opened set and the batch.

The order is that of the graph as the runtime has optimized it, which is the order in which it runs. A tensor lives from
the node that makes it to the last one that reads it; some operators write where they have read. A graph of thousands of
nodes is left as it is: optimizing it takes seconds, and changes the figure by less than a twentieth.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper

from mmd.training.feeds import TOTAL
from mmd_tools.fuse import edit
from mmd_tools.fuse.arena import Arena, Chunk

BLOCKED = "portable.blocked"
"""The portable engine where the runtime has the blocked operators (`mmd.training.blocked`)."""
_CODE_BYTES = {"portable": 2 << 20, BLOCKED: 1 << 20, "ort_training": 1 << 20}
"""The runtime's own code and scratch, which the first step brings into memory. Finding out whether there are blocked
operators has brought in some of it."""
_ITEM_BYTES = {"tensor(bool)": 1, "tensor(double)": 8, "tensor(float)": 4, "tensor(int64)": 8}
GRADIENT = ".grad"
"""How the outputs end that a step of the portable engine does not ask for."""
_MOST_KEPT = 32 << 20
"""Bytes of weights that the runtime's optimizer may see; when there are more they become inputs, which is quicker."""
_MOST_OPTIMIZED = 2000
"""Nodes of a graph that the runtime is asked to optimize."""
_SMALL = 1024
"""Elements of a constant that says how to compute, at most."""
_VIEWS = {"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators whose output is their input."""
_IN_PLACE = {"Abs", "Add", "Cast", "Clip", "Div", "Erf", "Exp", "HardSigmoid", "LeakyRelu", "Log", "LogSoftmax", "Max"}
_IN_PLACE |= {"Min", "Mul", "Neg", "Pow", "Relu", "ReluGrad", "Sigmoid", "Softmax", "Sqrt", "Sub", "Sum", "Tanh"}
"""Operators that may write over an input of the output's size that nobody else reads."""


def step_bytes(model: ModelProto, batch: int, *, parameter_bytes: int, moments: int, engine: str) -> int:
    """Return the estimated peak of one step of `model` at `batch` samples."""
    fetched = {value.name for value in model.graph.output}
    if engine != "ort_training":
        fetched = {name for name in fetched if not name.endswith(GRADIENT)}
    # A second set of parameters and moments; gradients, and what goes to the optimizer and comes back.
    held = (3 if engine == "ort_training" else 1 + moments) * parameter_bytes
    return _CODE_BYTES[engine] + held + _arena_bytes(model, batch, fetched)


def parts_bytes(model: ModelProto, part: int, *, parameter_bytes: int, moments: int) -> int:
    """Return the estimated peak of one step of the portable engine that takes its batch in parts of `part` samples.

    Each part makes gradients, which are copied and summed; the step is taken on a copy of the state.
    """
    fetched = {
        value.name for value in model.graph.output if value.name.endswith(GRADIENT) or value.name.startswith(TOTAL)
    }
    copies = ("made", "copied", "summed", "state", *["moment"] * moments)
    held = len(copies) * parameter_bytes
    return _CODE_BYTES["portable"] + held + _arena_bytes(model, part, fetched)


def inference_bytes(model: ModelProto, batch: int) -> int:
    """Return what a network for inference takes: its weights, and the most that its tensors take at once."""
    weights: int = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    return _CODE_BYTES["portable"] + weights + _arena_bytes(model, batch, {value.name for value in model.graph.output})


def _arena_bytes(model: ModelProto, batch: int, outputs: set[str]) -> int:
    filled = _with_batch(model, batch)
    ready = _optimized(filled)
    return _Replay(ready, _tensor_bytes(ready, declared=filled), outputs).run()


class _Replay:
    """A run of the graph that only allocates and releases."""

    def __init__(self, model: ModelProto, sizes: dict[str, int], outputs: set[str]) -> None:
        self._sizes = sizes
        self._nodes = _needed(model, outputs)
        self._outputs = outputs
        self._reads = Counter(name for node in self._nodes for name in set(node.input) if name)
        self._free = _free_transposes(self._nodes, outputs)
        self._arena = Arena()
        self._chunks: dict[str, Chunk] = {}
        self._shared: Counter[Chunk] = Counter()
        """How many tensors lie in a chunk."""

    def run(self) -> int:
        """Return how many bytes were touched."""
        for node in self._nodes:
            for name in node.output:
                if name and name not in self._outputs:
                    self._make(node, name)
            for name in {*node.input} - {""}:
                self._reads[name] -= 1
            for name in {*node.input, *node.output} - {""}:
                if self._reads[name] == 0:
                    self._drop(name)
        return self._arena.touched

    def _make(self, node: NodeProto, name: str) -> None:
        chunk = self._place(node, name)
        if chunk is not None:
            self._chunks[name] = chunk
            self._shared[chunk] += 1

    def _place(self, node: NodeProto, name: str) -> Chunk | None:
        """Return where an output lies; None for a view of what the engine holds."""
        if node.op_type in _VIEWS or name in self._free:
            return self._chunks.get(node.input[0])
        if node.op_type in _IN_PLACE:
            for source in node.input:
                chunk = self._chunks.get(source)
                is_free = chunk is not None and self._reads[source] == 1 and self._shared[chunk] == 1
                if is_free and self._sizes.get(source) == self._sizes.get(name):
                    return chunk
        return self._arena.allocate(self._sizes.get(name, 0))

    def _drop(self, name: str) -> None:
        chunk = self._chunks.pop(name, None)
        if chunk is not None:
            self._shared[chunk] -= 1
            if self._shared[chunk] == 0:
                self._arena.release(chunk)


def _free_transposes(nodes: list[NodeProto], outputs: set[str]) -> set[str]:
    """Return the matrices turned round for products alone: the runtime turns them in the product itself."""
    turned = {node.output[0] for node in nodes if node.op_type == "Transpose" and _swaps_last_two(node)}
    read_otherwise = {name for node in nodes if node.op_type != "MatMul" for name in node.input}
    return turned - read_otherwise - outputs


def _swaps_last_two(node: NodeProto) -> bool:
    axes = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), [])
    return axes == [*range(len(axes) - 2), len(axes) - 1, len(axes) - 2]


def _needed(model: ModelProto, outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that lead to the outputs, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _optimized(model: ModelProto) -> ModelProto:
    """Return the graph that the runtime makes of `model`, its nodes in the order in which it runs them."""
    is_short = len(model.graph.node) <= _MOST_OPTIMIZED
    level = ort.GraphOptimizationLevel
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        _open(
            model,
            optimized_model_filepath=str(path),
            graph_optimization_level=level.ORT_ENABLE_ALL if is_short else level.ORT_DISABLE_ALL,
        )
        return onnx.load(path)


def _open(model: ModelProto, **changes: Any) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for name, value in changes.items():
        setattr(options, name, value)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _with_batch(model: ModelProto, batch: int) -> ModelProto:
    """Return a copy with the batch filled in, and the weights of a large network as inputs."""
    graph = model.graph
    large = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and prod(t.dims) > _SMALL]
    weights = large if sum(tensor.ByteSize() for tensor in large) > _MOST_KEPT else []
    names = {tensor.name for tensor in weights}
    inputs = [*graph.input, *(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights)]
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    known = [value for value in graph.value_info if value.name not in names]
    written = helper.make_graph(graph.node, graph.name, inputs, graph.output, kept, value_info=known)
    for value in [*written.input, *written.value_info, *written.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == edit.BATCH:
                dim.dim_value = batch
    filled = helper.make_model(written, opset_imports=model.opset_import, ir_version=model.ir_version)
    return onnx.shape_inference.infer_shapes(filled, data_prop=True)


def _tensor_bytes(model: ModelProto, *, declared: ModelProto) -> dict[str, int]:
    """Return the size of every tensor as the runtime infers it, or as `declared` has it.

    What neither knows shares its largest input with its siblings.
    """
    asked = ModelProto()
    asked.CopyFrom(model)
    known = {value.name: value for value in asked.graph.value_info}
    fetched = {value.name for value in asked.graph.output}
    made = [name for node in asked.graph.node for name in node.output if name and name not in fetched]
    asked.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in made)
    session = _open(asked, graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    sizes = {
        value.name: prod(value.shape) * _ITEM_BYTES.get(value.type, 4)
        for value in [*session.get_inputs(), *session.get_outputs()]
        if all(isinstance(size, int) for size in value.shape)
    }
    for value in declared.graph.value_info:
        dims = edit.dimensions(value)
        if dims is not None and all(isinstance(size, int) for size in dims):
            sizes.setdefault(value.name, _bytes(value.type.tensor_type.elem_type, dims))
    for node in model.graph.node:
        for name in node.output:
            if name not in sizes:
                sizes[name] = max((sizes.get(source, 0) for source in node.input), default=0) // len(node.output)
    return sizes


def _bytes(element_type: int, dims: Iterable[Any]) -> int:
    return int(prod(dims)) * int(helper.tensor_dtype_to_np_dtype(element_type).itemsize)
