"""Which layers can be left out, and all still fits? Blocks beside an identity, convolutions that keep a shape."""

from dataclasses import dataclass

import numpy as np
import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish")


@dataclass(frozen=True)
class Block:
    """Something that can be bypassed."""

    made: str
    """The tensor that it ends in."""
    passed: str
    """The tensor, of the same shape, that stands for it when the block is gone."""
    weight: str
    """The last weight of the block: how much the block changes what passes it."""


def shallower(network: Network, depth: float) -> onnx.ModelProto:
    """Return the network with about `depth` of its removable blocks, the strongest ones. 1 leaves it as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    blocks = removable(network)
    tensors = edit.constants(model)
    strength = {block: float(np.abs(edit.array(tensors[block.weight])).mean()) for block in blocks}
    gone = sorted(blocks, key=lambda block: strength[block])[: len(blocks) - round(len(blocks) * depth)]
    stands_for: dict[str, str] = {}
    for block in blocks:
        if block in gone:
            stands_for[block.made] = stands_for.get(block.passed, block.passed)
            edit.replace_uses(model, block.made, stands_for[block.made])
    edit.remove_dead(model)
    del model.graph.value_info[:]
    return model


def removable(network: Network) -> list[Block]:
    """Return the blocks of the network in the order of computation: those beside an identity, where it has any."""
    makers = {name: node for node in network.model.graph.node for name in node.output}
    readers = edit.consumers(network.model)
    nodes = [node for node in network.model.graph.node if node.output[0] != network.logits]
    residual = [block for node in nodes if (block := _beside_identity(network, node, makers))]
    return residual or [block for node in nodes if (block := _plain(network, node, makers, readers))]


def _beside_identity(network: Network, node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> Block | None:
    """A sum of a tensor and something computed from it."""
    if node.op_type != "Add" or any(network.shapes.get(name) != network.shapes[node.output[0]] for name in node.input):
        return None
    for passed, branch in (tuple(node.input), tuple(reversed(node.input))):
        weight = _last_weight(network, branch, passed, makers)
        if weight is not None:
            return Block(node.output[0], passed, weight)
    return None


def _last_weight(network: Network, branch: str, passed: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """Return the weight nearest to the end of `branch`, if that reads `passed` and, constants apart, nothing else."""
    constants, open_ones, seen = edit.constants(network.model), [branch], set[str]()
    weight: str | None = None
    reaches = False
    while open_ones:
        name = open_ones.pop()
        reaches |= name == passed
        if name in seen or name == passed or name in constants or not name:
            continue
        seen.add(name)
        if name not in makers:
            return None
        maker = makers[name]
        if weight is None and maker.op_type in ("Conv", "Gemm", "MatMul") and maker.input[1] in constants:
            weight = maker.input[1]
        open_ones.extend(maker.input)
    return weight if reaches else None


def _plain(
    network: Network,
    node: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    readers: dict[str, list[onnx.NodeProto]],
) -> Block | None:
    """A convolution and its activation, in a row of such, that keep the shape: VGG's second and third of a stage."""
    maker = makers.get(node.input[0]) if node.op_type in _ACTIVATIONS else None
    if maker is None or maker.op_type != "Conv" or len(readers.get(node.input[0], [])) != 1:
        return None
    source = maker.input[0]
    before = makers.get(source)
    is_in_a_row = before is not None and before.op_type == node.op_type and len(readers[source]) == 1
    weight = edit.constants(network.model).get(maker.input[1])
    if not is_in_a_row or weight is None or edit.whole(maker, "group", 1) != 1:
        return None
    if network.shapes.get(source) != network.shapes.get(node.output[0]):
        return None
    return Block(node.output[0], source, weight.name)
