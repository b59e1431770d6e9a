"""How does a network become an int8 one? QuantizeLinear and DequantizeLinear written around what multiplies weights.

Static quantisation, as every ONNX runtime reads it: weights int8, symmetric, a scale a row; activations int8 with a
scale and a zero point that cover what the calibration samples showed; biases int32. The runtime fuses the pairs into
integer kernels. After Jacob et al. (arXiv:1712.05877), without retraining. Needs nothing but onnx and numpy: the
quantiser of onnxruntime takes more memory to import than the trainer has to spare.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mmd.artifact.export import MEMORY_PREFIX
from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused

Floats = NDArray[np.float32]
Range = tuple[float, float]

_LOW, _HIGH = -128, 127
_WEIGHT_HIGH = 63
"""Seven bits: on x86-64 without VNNI the sum of two products of eight bits overflows 16, and answers go wrong."""
_TINY = 1e-8
_LARGEST_BIAS = 2**30
_BATCH = 16
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_FUSED_AFTER = ("Relu", "Clip")
"""Directly behind a product the runtime computes these in the same kernel."""


@dataclass(frozen=True)
class _Product:
    """A node that multiplies a constant weight."""

    node: onnx.NodeProto
    weight: onnx.TensorProto
    axis: int
    """Of the weight: along its outputs."""
    result: str
    """What comes out, behind an activation that belongs to it."""


def quantise(model: bytes, inputs: Floats, *, threads: int = 1) -> bytes:
    """Return `model` in int8, calibrated on `inputs` [n, ...] as the network takes them; equal calls, equal bytes.

    The output keeps its float values, and so does a memory: its votes tell cosines apart that 8 bits do not. Raises
    `ArtifactRefused` for a network without a weight that is multiplied, or without samples to calibrate on.
    """
    network = onnx.load_model_from_string(model)
    products = list(_products(network))
    if not products or not len(inputs):
        lacks = "convolution or matrix product with weights" if len(inputs) else "samples to calibrate on"
        raise ArtifactRefused(f"The network cannot be made int8: there is no {lacks}; leave it in fp32.")
    ends = {output.name for output in network.graph.output}
    touched = dict.fromkeys(name for each in products for name in (each.node.input[0], each.result))
    wanted = [name for name in touched if name not in ends and not name.startswith(MEMORY_PREFIX)]
    ranges = _ranges(network, wanted, inputs, threads)
    _rewrite(network, products, ranges)
    written: bytes = network.SerializeToString(deterministic=True)
    return written


def _products(network: onnx.ModelProto) -> Iterator[_Product]:
    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in network.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    ends = {output.name for output in network.graph.output}
    for node in network.graph.node:
        weight = tensors.get(node.input[1]) if node.op_type in _PRODUCTS else None
        if weight is None or weight.name.startswith(MEMORY_PREFIX):
            continue
        if weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in {*tensors, *ends}:
            continue
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        is_plain = all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attributes.get("transA")
        if not is_plain or (node.op_type == "MatMul" and len(weight.dims) != 2):
            continue
        axis = 0 if node.op_type == "Conv" or attributes.get("transB", 0) else 1
        result, after = node.output[0], readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type in _FUSED_AFTER and after[0].input[0] == result:
            result = after[0].output[0]
        yield _Product(node, weight, axis, result)


def _ranges(network: onnx.ModelProto, names: list[str], inputs: Floats, threads: int) -> dict[str, Range]:
    """Run the float network and return the smallest and largest value of each tensor, 0 among them."""
    watched = onnx.ModelProto()
    watched.CopyFrom(network)
    source = network.graph.input[0].name
    made = [name for name in names if name != source]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    session = open_session(watched.SerializeToString(), threads=threads)
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        for name, value in [(source, batch), *zip(made, session.run(made, {source: batch}), strict=True)]:
            if name in low:
                low[name], high[name] = min(low[name], float(value.min())), max(high[name], float(value.max()))
    for name in names:
        if not np.isfinite([low[name], high[name]]).all():
            raise ArtifactRefused(f"The network cannot be made int8: {name} is not finite on the calibration samples.")
    return {name: (low[name], high[name]) for name in names}


def _rewrite(network: onnx.ModelProto, products: list[_Product], ranges: dict[str, Range]) -> None:
    graph = network.graph
    scales = {name: _add_scale(graph, name, *ranges[name]) for name in ranges}
    of_node = {each.node.output[0]: each for each in products}
    nodes = _pair(graph.input[0].name) if graph.input[0].name in ranges else []
    for node in graph.node:
        product = of_node.get(node.output[0])
        if product is not None:
            nodes += _quantised_weights(graph, product, scales[node.input[0]])
        node.input[:] = [f"{name}.real" if name in ranges else name for name in node.input]
        nodes.append(node)
        for name in node.output:
            nodes += _pair(name) if name in ranges else []
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unread(graph)


def _pair(name: str) -> list[onnx.NodeProto]:
    places = [f"{name}.scale", f"{name}.zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *places], [f"{name}.int8"], f"{name}.quantise"),
        helper.make_node("DequantizeLinear", [f"{name}.int8", *places], [f"{name}.real"], f"{name}.dequantise"),
    ]


def _add_scale(graph: onnx.GraphProto, name: str, low: float, high: float) -> float:
    """Add scale and zero point of an activation: real = scale (stored - zero point)."""
    scale = np.float32(max(high - low, _TINY) / (_HIGH - _LOW))
    zero = int(np.clip(round(_LOW - low / float(scale)), _LOW, _HIGH))
    _add(graph, f"{name}.scale", np.array(scale, np.float32))
    _add(graph, f"{name}.zero", np.array(zero, np.int8))
    return float(scale)


def _quantised_weights(graph: onnx.GraphProto, product: _Product, input_scale: float) -> list[onnx.NodeProto]:
    """Add the integers of weight and bias, let the product read them, and return the nodes that dequantise them."""
    node, name = product.node, product.node.output[0]
    weight = numpy_helper.to_array(product.weight)
    bias = next((tensor for tensor in graph.initializer if tensor.name in node.input[2:3]), None)
    rows = np.moveaxis(weight, product.axis, 0).reshape(weight.shape[product.axis], -1)
    scale = np.maximum(np.abs(rows).max(axis=1) / _WEIGHT_HIGH, _TINY).astype(np.float32)
    values = numpy_helper.to_array(bias).ravel() if bias is not None else np.zeros(0, np.float32)
    if len(values) == len(scale):
        # A row of next to nothing must not make its bias too big for 32 bits.
        scale = np.maximum(scale, np.abs(values) / (input_scale * _LARGEST_BIAS)).astype(np.float32)
    along = [1] * weight.ndim
    along[product.axis] = -1
    stored = np.clip(np.rint(weight / scale.reshape(along)), -_WEIGHT_HIGH, _WEIGHT_HIGH).astype(np.int8)
    nodes = [_dequantised(graph, f"{name}.weight", stored, scale, product.axis)]
    node.input[1] = nodes[0].output[0]
    if len(values) == len(scale):
        bias_scale = (scale * np.float32(input_scale)).astype(np.float32)
        integers = np.rint(values.astype(np.float64) / bias_scale).astype(np.int32)
        nodes.append(_dequantised(graph, f"{name}.bias", integers, bias_scale, 0))
        node.input[2] = nodes[1].output[0]
    return nodes


def _dequantised(
    graph: onnx.GraphProto, name: str, stored: NDArray[np.generic], scale: Floats, axis: int
) -> onnx.NodeProto:
    places = [f"{name}.int", f"{name}.scale", f"{name}.zero"]
    for place, value in zip(places, (stored, scale, np.zeros(len(scale), stored.dtype)), strict=True):
        _add(graph, place, value)
    return helper.make_node("DequantizeLinear", places, [f"{name}.real"], f"{name}.dequantise", axis=axis)


def _add(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> None:
    graph.initializer.append(numpy_helper.from_array(value, name))


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]
