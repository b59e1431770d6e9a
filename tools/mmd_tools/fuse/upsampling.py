"""How are ConvTranspose and Resize trained? As a Conv over a map with zeros put between, and as matrix products.

onnxruntime-training 1.19.2 has no CPU kernel for their gradients; those of Conv, Pad and MatMul every engine has.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mmd.artifact.session import open_session
from mmd_tools.fuse import edit
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import IR_VERSION, OPSET
from mmd_tools.fuse.rewrite import Unfit


def transposed_convolution(
    nodes: Nodes, model: onnx.ModelProto, node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """Add a Conv with the kernel turned around over `x`, [N, *before] -> [N, *after], with zeros between its values."""
    weight = edit.constants(model).get(node.input[1])
    if weight is None:
        raise Unfit(f"{edit.label(node)} takes its weights from the graph; they must be constants.")
    kernel, rank = list(weight.dims[2:]), len(weight.dims) - 2
    strides = _integers(node, "strides", [1] * rank)
    dilations = _integers(node, "dilations", [1] * rank)
    group = edit.whole(node, "group", 1)
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
    begins = [reach[axis] - pad for axis, pad in enumerate(_begins(node, before, after, strides, reach))]
    ends = [after[1 + i] - before[1 + i] * strides[i] - begins[i] + reach[i] for i in range(rank)]
    spaced = _spaced(nodes, node.input[0], before, strides)
    framed = nodes.add("Pad", [spaced, nodes.constant([0, 0, *begins, 0, 0, *ends], np.int64)])
    turned = _turned(nodes, node.input[1], list(weight.dims), group)
    inputs = [framed, turned, *node.input[2:3]]
    nodes.add("Conv", inputs, out=node.output[0], dilations=dilations, group=group)


def _begins(
    node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...], strides: list[int], reach: list[int]
) -> list[int]:
    """Return how much is cut off before each axis, as ONNX has it for auto_pad and output_shape."""
    rank = len(strides)
    mode = edit.attribute(node, "auto_pad", b"NOTSET")
    is_given = edit.attribute(node, "output_shape", None) is not None
    if not is_given and mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        return _integers(node, "pads", [0] * 2 * rank)[:rank]
    extra = _integers(node, "output_padding", [0] * rank)
    totals = [strides[i] * (before[1 + i] - 1) + extra[i] + reach[i] + 1 - after[1 + i] for i in range(rank)]
    return [total // 2 if mode == b"SAME_UPPER" else total - total // 2 for total in totals]


def _spaced(nodes: Nodes, x: str, before: tuple[int, ...], strides: list[int]) -> str:
    """[N, C, H, W] -> [N, C, H sh, W sw], zeros after every value."""
    if set(strides) == {1}:
        return x
    channels, *sizes = before
    apart = nodes.constant([0, channels, *(entry for size in sizes for entry in (size, 1))], np.int64)
    zeros = [entry for stride in strides for entry in (0, stride - 1)]
    padded = nodes.add(
        "Pad", [nodes.add("Reshape", [x, apart]), nodes.constant([0] * (4 + len(zeros)) + zeros, np.int64)]
    )
    together = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    return nodes.add("Reshape", [padded, nodes.constant([0, channels, *together], np.int64)])


def _turned(nodes: Nodes, weight: str, dims: list[int], group: int) -> str:
    """[C, M / group, *kernel] -> [M, C / group, *kernel], every kernel from its end to its start."""
    fan_in, fan_out, *kernel = dims
    area = int(np.prod(kernel))
    rows = nodes.add("Reshape", [weight, nodes.constant([group, fan_in // group, fan_out, area], np.int64)])
    swapped = nodes.add("Transpose", [rows], perm=[0, 2, 1, 3])
    reversal = nodes.constant(np.eye(area)[::-1].copy())
    shape = nodes.constant([group * fan_out, fan_in // group, *kernel], np.int64)
    return nodes.add("Reshape", [nodes.add("MatMul", [swapped, reversal]), shape])


def resize(
    nodes: Nodes, model: onnx.ModelProto, node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """Add x A_w, then A_h^T x, A the interpolation along an axis: [N, *before] -> [N, *after]."""
    if len(before) > 3 or before[0] != after[0]:
        raise Unfit(
            f"{edit.label(node)} resizes {list(before)} to {list(after)}; one or two spatial axes can be trained."
        )
    scales = _scales(model, node) or [None] * (1 + len(before))
    maps = [_interpolation(node, before[i], after[i], scales[1 + i]) for i in range(1, len(before))]
    is_line, out = len(maps) == 1, node.output[0]
    across = nodes.add("MatMul", [node.input[0], nodes.constant(maps[-1])], out=out if is_line else None)
    if not is_line:
        nodes.add("MatMul", [nodes.constant(maps[0].T), across], out=out)


def _scales(model: onnx.ModelProto, node: onnx.NodeProto) -> list[float | None]:
    tensor = edit.constants(model).get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return [float(scale) for scale in edit.array(tensor)] if tensor is not None else []


def _interpolation(node: onnx.NodeProto, before: int, after: int, scale: float | None) -> NDArray[Any]:
    """[before, after]: what each new place takes of each old one, asked of the runtime itself."""
    if edit.attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        raise Unfit(f"{edit.label(node)} crops while it resizes; use Slice and a plain Resize.")
    # Four axes, because the runtime does cubic interpolation in no other number.
    target = np.array([1, 1, scale, 1], np.float32) if scale else np.array([before, 1, after, 1], np.int64)
    line = helper.make_node("Resize", ["x", "", "target"] if scale else ["x", "", "", "target"], ["y"])
    line.attribute.extend(node.attribute)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [before, 1, before, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([line], "interpolation", [x], [y], [numpy_helper.from_array(target, "target")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    unit = np.eye(before, dtype=np.float32).reshape(before, 1, before, 1)
    result = open_session(model.SerializeToString()).run(None, {"x": unit})[0]
    return np.asarray(result).reshape(before, after)


def _integers(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    value = edit.attribute(node, name, default)
    return [int(entry) for entry in value] if isinstance(value, list | tuple) else default
