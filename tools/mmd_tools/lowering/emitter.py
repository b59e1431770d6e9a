"""How does a lowering rule read the training graph and write plain nodes? Names, shapes and constants in one place."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mmd.errors import ArtifactRefused

Dimension = int | str
"""A size, or the name of a symbolic one (the batch)."""
Shape = tuple[Dimension, ...]

OPTIONAL = ""
"""An absent optional input or output of a node."""


@dataclass
class Emitter:
    """The step graph while it is being written; every rule gets it with the node to lower."""

    shapes: dict[str, Shape]
    types: dict[str, int]
    producers: dict[str, NodeProto]
    constants: dict[str, NDArray[Any]]
    """Small constants of the training graph, by name."""
    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    marks: list[dict[str, Any]] = field(default_factory=list)
    """Which tensor is the gradient of which convolution or pooling: see `mark`."""
    origin: str = ""
    """Name of the node that is being lowered; the names of what it becomes start with it."""
    _count: int = 0
    _constant_names: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def emit(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Append one node and return the name of its output, `to` or a fresh name."""
        return self.emit_many(op, inputs, [to or self.fresh(op)], **attributes)[0]

    def emit_many(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Append one node with several outputs and return their names."""
        name = self.fresh(op)
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, **attributes))
        return list(outputs)

    def fresh(self, op: str) -> str:
        self._count += 1
        return f"{self.origin}/{op}_{self._count}"

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of an initializer that holds `value`; equal constants share one."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constant_names:
            name = f"constant/{len(self._constant_names)}"
            self._constant_names[key] = name
            self.initializers[name] = numpy_helper.from_array(array, name)
        return self._constant_names[key]

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 vector."""
        return self.constant(list(values), np.int64)

    def mark(self, op: str, makes: str, *, tensors: dict[str, str], **attributes: Any) -> None:
        """Note that `makes` is a gradient that a board may know a faster way to, given the named `tensors`."""
        self.marks.append({"op": op, "makes": makes, "tensors": tensors, **attributes})

    def reshape(self, tensor: str, *shape: int, to: str | None = None) -> str:
        """Reshape; 0 copies the dimension at that place, -1 is what is left."""
        return self.emit("Reshape", tensor, self.integers(*shape), to=to)

    def cast(self, tensor: str, dtype: int = TensorProto.FLOAT, *, to: str | None = None) -> str:
        name = self.fresh("Cast")
        self.nodes.append(helper.make_node("Cast", [tensor], [to or name], name=name, to=dtype))
        return to or name

    def reduce_sum(self, tensor: str, axes: Sequence[int], *, keepdims: bool, to: str | None = None) -> str:
        if not axes:
            return self.emit("Identity", tensor, to=to)
        return self.emit("ReduceSum", tensor, self.integers(*axes), to=to, keepdims=int(keepdims))

    def reduce_mean(self, tensor: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """ReduceMean takes its axes as an attribute before opset 18, as an input since."""
        if self.opset >= 18:
            return self.emit("ReduceMean", tensor, self.integers(*axes), keepdims=int(keepdims))
        return self.emit("ReduceMean", tensor, axes=list(axes), keepdims=int(keepdims))

    def unbroadcast(self, gradient: str, shape: Shape, wanted: Shape, *, to: str | None = None) -> str:
        """Sum `gradient` of `shape` over the axes along which a tensor of shape `wanted` was broadcast."""
        extra = len(shape) - len(wanted)
        axes = list(range(extra))
        axes += [extra + i for i, size in enumerate(wanted) if size == 1 and shape[extra + i] != 1]
        if not axes:
            return self.emit("Identity", gradient, to=to)
        if extra == 0:
            return self.reduce_sum(gradient, axes, keepdims=True, to=to)
        summed = self.reduce_sum(gradient, axes, keepdims=False)
        ones = [i for i, size in enumerate(wanted) if size == 1]
        return self.emit("Unsqueeze", summed, self.integers(*ones), to=to) if ones else self._rename(summed, to)

    def _rename(self, tensor: str, to: str | None) -> str:
        return self.emit("Identity", tensor, to=to) if to else tensor

    def shape(self, tensor: str) -> Shape:
        """Return the shape of a tensor of the training graph. Raises `ArtifactRefused` when it is not known."""
        if tensor in self.shapes:
            return self.shapes[tensor]
        # The gradient builder names the gradient of `t` `t_grad` (`t_grad_0`, ... before they are summed).
        base, separator, _ = tensor.rpartition("_grad")
        if separator and base in self.shapes:
            return self.shapes[base]
        raise ArtifactRefused(
            f"The shape of {tensor} is not known where {self.origin} is lowered; run ONNX shape inference on the model."
        )

    def sizes(self, tensor: str, *, start: int = 0) -> tuple[int, ...]:
        """Return the dimensions from `start` on. Raises `ArtifactRefused` when one of them is symbolic."""
        dimensions = self.shape(tensor)[start:]
        fixed = tuple(size for size in dimensions if isinstance(size, int))
        if len(fixed) != len(dimensions):
            raise ArtifactRefused(
                f"{tensor} has shape {list(self.shape(tensor))} where {self.origin} is lowered: "
                "only the batch may be symbolic; give the model fixed sizes."
            )
        return fixed

    def value(self, tensor: str) -> NDArray[Any]:
        """Return the value of a constant of the training graph. Raises `ArtifactRefused` when it is computed."""
        if tensor not in self.constants:
            raise ArtifactRefused(f"{tensor} is computed, but {self.origin} can only be lowered when it is constant.")
        return self.constants[tensor]


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes as Python values, strings decoded."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def output_of(node: NodeProto, index: int) -> str:
    """Return the name of output `index`, or `OPTIONAL` when nobody asked for it."""
    return node.output[index] if index < len(node.output) else OPTIONAL


def input_of(node: NodeProto, index: int) -> str:
    """Return the name of input `index`, or `OPTIONAL` when it is absent."""
    return node.input[index] if index < len(node.input) else OPTIONAL


def emitter_for(model: onnx.ModelProto) -> Emitter:
    """Read names, shapes and small constants out of a training graph."""
    graph = model.graph
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        types.setdefault(value.name, tensor.elem_type)
        if tensor.HasField("shape"):
            shapes.setdefault(
                value.name, tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
            )
    initializers: dict[str, TensorProto] = {}
    constants: dict[str, NDArray[Any]] = {}
    for initializer in graph.initializer:
        shapes[initializer.name] = tuple(initializer.dims)
        types[initializer.name] = initializer.data_type
        initializers[initializer.name] = initializer
        # External data is a network's weights: never small, and its file may not be here.
        if initializer.data_location != TensorProto.EXTERNAL:
            constants[initializer.name] = numpy_helper.to_array(initializer)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    producers = {output: node for node in graph.node for output in node.output if output}
    return Emitter(shapes, types, producers, constants, opset, initializers=initializers)
