"""Lowering rule: the gradient of Resize, a linear map a spatial axis."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused
from mmd_tools.lowering.emitter import Emitter, attributes_of


def resize_grad(e: Emitter, node: NodeProto) -> None:
    """Y = A_h X A_w^T, A the interpolation along one axis: dX = A_h^T dY A_w (one axis or two)."""
    d_y, x = node.input[:2]
    inputs, outputs = e.sizes(x, start=2), e.sizes(d_y, start=2)
    if len(inputs) > 2 or e.shape(x)[1] != e.shape(d_y)[1]:
        raise ArtifactRefused(f"{node.op_type} {node.name}: only one or two spatial axes can be resized in training.")
    scales = e.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    maps = [
        _interpolation(e, node, i, o, float(scales[2 + axis]) if scales is not None else None)
        for axis, (i, o) in enumerate(zip(inputs, outputs, strict=True))
    ]
    gradient = e.emit("MatMul", d_y, e.constant(maps[-1].T), to=None if len(maps) > 1 else node.output[0])
    if len(maps) > 1:
        e.emit("MatMul", e.constant(maps[0]), gradient, to=node.output[0])


def _interpolation(e: Emitter, node: NodeProto, inputs: int, outputs: int, scale: float | None) -> NDArray[Any]:
    """[inputs, outputs]: what each output takes of each input, asked of the runtime itself."""
    attributes = attributes_of(node)
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch" or "axes" in attributes:
        raise ArtifactRefused(f"{node.op_type} {node.name} keeps the aspect ratio or names axes; give plain sizes.")
    target = np.array([1, 1, scale], np.float32) if scale else np.array([inputs, 1, outputs], np.int64)
    names = ["x", "", "target", ""] if scale else ["x", "", "", "target"]
    resize = helper.make_node("Resize", names, ["y"], **attributes)
    shape = [inputs, 1, inputs]
    graph = helper.make_graph(
        [resize],
        "interpolation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(target, "target")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", e.opset)], ir_version=9)
    unit = np.eye(inputs, dtype=np.float32).reshape(shape)
    result: NDArray[Any] = open_session(onnx.ModelProto.SerializeToString(model)).run(None, {"x": unit})[0]
    return result.reshape(inputs, outputs)
