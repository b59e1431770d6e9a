"""How is a step graph rewritten node by node? Names, sizes and constants of a graph whose batch is fixed."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
MARKS = "mmd.gradients"
"""Metadata of a lowered graph: which of its tensors is the gradient of which convolution or pooling, as JSON."""
STEP_FUNCTION: dict[str, Any] = {"alpha": float(np.float32(3e38)), "beta": 0.0}
"""HardSigmoid with these is 1 for every positive number that is not denormal, and 0 for the rest."""


class Rewriting:
    """A graph with all sizes known, and the nodes that are to replace its own."""

    def __init__(self, model: ModelProto, batch: int) -> None:
        self.model = _sized(model, batch)
        self.shapes = {v.name: _shape(v) for v in [*self.model.graph.value_info, *self.model.graph.output]}
        self.shapes |= {v.name: _shape(v) for v in self.model.graph.input}
        self.shapes |= {tensor.name: tuple(tensor.dims) for tensor in self.model.graph.initializer}
        self.initializers = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.booleans = {
            v.name for v in self.model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.BOOL
        }
        self.marks = _marks(model)
        self.uses = Counter(name for node in self.model.graph.node for name in node.input)
        self.uses.update(output.name for output in self.model.graph.output)
        self.nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, Shape, bytes], str] = {}
        self._reshaped: dict[str, str] = {}
        """What a tensor was before it got its shape here."""

    def emit(self, op: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Append one node and return the name of its output, `out` or a fresh name."""
        name = f"made/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out or name], name=name, domain=domain, **attributes))
        return out or name

    def emit_many(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append one node with several outputs."""
        self.nodes.append(
            helper.make_node(op, list(inputs), list(outputs), name=f"made/{op}_{len(self.nodes)}", **attributes)
        )

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, value: NDArray[Any]) -> str:
        """Return the name of an initializer that holds `value`; equal constants share one."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = f"made/constant_{len(self._constants)}"
            self.initializers[self._constants[key]] = numpy_helper.from_array(value, self._constants[key])
        return self._constants[key]

    def reshape(self, tensor: str, *shape: int, out: str | None = None) -> str:
        """Give a tensor another shape; of one that only got a shape here, that of the tensor which it was."""
        source = self._reshaped.get(tensor, tensor)
        made = self.emit("Reshape", source, self.integers(*shape), out=out)
        self._reshaped[made] = source
        return made

    def pad(self, tensor: str, begins: Sequence[int], ends: Sequence[int]) -> str:
        """Pad with zeros, or crop where negative; one number an axis."""
        if not any((*begins, *ends)):
            return tensor
        return self.emit("Pad", tensor, self.integers(*begins, *ends))

    def value(self, tensor: str) -> NDArray[Any] | None:
        """Return the value of a constant, None for anything else."""
        held = self.initializers.get(tensor)
        if held is None or held.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(held))

    def finish(self, domain: str) -> ModelProto:
        """Return the model of the nodes written so far, without those that nobody reads.

        `domain` is that of operators that are not plain ONNX.
        """
        graph = self.model.graph
        needed = {output.name for output in graph.output}
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        initializers = [tensor for name, tensor in self.initializers.items() if name in needed]
        written = helper.make_graph(kept[::-1], graph.name, graph.input, graph.output, initializers)
        opsets = [*self.model.opset_import, *([helper.make_opsetid(domain, 1)] if domain else [])]
        return helper.make_model(written, opset_imports=opsets, ir_version=self.model.ir_version)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes as Python values, strings decoded."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def is_step_function(node: NodeProto) -> bool:
    """Tell whether the node makes 1 of what is above 0, and 0 of the rest: see the lowering rule of ReluGrad."""
    return node.op_type == "HardSigmoid" and attributes_of(node) == STEP_FUNCTION


def _marks(model: ModelProto) -> dict[str, dict[str, Any]]:
    """Return the marks by the tensor that each says how to make."""
    found = next((entry.value for entry in model.metadata_props if entry.key == MARKS), "[]")
    return {mark["makes"]: mark for mark in json.loads(found)}


def _sized(model: ModelProto, batch: int) -> ModelProto:
    """Return a copy with the batch filled in, and with every size that follows from it as a constant."""
    sized = ModelProto()
    sized.CopyFrom(model)
    for value in [*sized.graph.input, *sized.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.dim_value = batch
    for _ in range(3):
        sized = onnx.shape_inference.infer_shapes(sized, data_prop=True)
        if not _fold_sizes(sized):
            break
    return sized


def _fold_sizes(model: ModelProto) -> bool:
    """Replace Shape and Size of tensors of known shape by constants; True when there was one."""
    graph = model.graph
    shapes = {v.name: _shape(v) for v in [*graph.value_info, *graph.input]}
    kept, folded = [], []
    for node in graph.node:
        shape = shapes.get(node.input[0]) if node.op_type in ("Shape", "Size") and not node.attribute else None
        if shape is None:
            kept.append(node)
            continue
        value = np.array(shape, np.int64) if node.op_type == "Shape" else np.array(np.prod(shape), np.int64)
        folded.append(numpy_helper.from_array(value, node.output[0]))
    if folded:
        graph.initializer.extend(folded)
        copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
    return bool(folded)


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)
