"""Which tensors of a network are its layers, for pairs that the recipe does not name?"""

from collections.abc import Sequence

import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network

MOST_LAYERS = 48
_KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul"})
_FURTHEST = 12
"""Nodes between a kernel and the end of its layer; an activation that is written out takes up to nine."""


def layers(network: Network) -> tuple[str, ...]:
    """Return the end of every layer in the order of computation: a kernel with what follows it at its own shape.

    The end is where everything that was made since the kernel has come together again (an activation that is written
    out, a sum with a shortcut), and before anything of another shape. The logits are none; of very many, every n-th.
    """
    nodes = list(network.model.graph.node)
    constants = set(edit.constants(network.model))
    users = edit.consumers(network.model)
    found: dict[str, None] = {}
    for index, node in enumerate(nodes):
        has_kernel = node.op_type in _KERNELS and bool(constants.intersection(node.input))
        if has_kernel and 1 <= len(network.shapes.get(node.output[0], ())) <= 3:
            found[_end(nodes[index + 1 :], node.output[0], network, users)] = None
    found.pop(network.logits, None)
    names = list(found)
    return tuple(names[:: -(-len(names) // MOST_LAYERS) or 1])


def _end(
    following: Sequence[onnx.NodeProto], start: str, network: Network, users: dict[str, list[onnx.NodeProto]]
) -> str:
    made, end, steps = [start], start, 0
    for node in following:
        if not set(made).intersection(node.input):
            continue
        steps += 1
        output = node.output[0]
        is_level = network.shapes.get(output) == network.shapes[start] and len(node.output) == 1
        if node.op_type in _KERNELS or not is_level or steps > _FURTHEST:
            break
        made.append(output)
        inner = {name for name in made if name != output}
        if all(user.output[0] in made for name in inner for user in users.get(name, [])):
            end = output
    return end
