"""How are two layers brought to the same positions? By steps on each side, planned from their shapes alone.

A layer is a row of features [C], a sequence [C, L] (or tokens [T, D], told apart by the operators that make them), or a
map [C, H, W]. In the end both sides have their channels first and the same places behind them, or none:

1. A row meets anything: the other side's mean over its places.
2. Map and map, sequence and sequence: where one side is a whole multiple of the other, windows of it are averaged;
   otherwise the Mentor's side, which needs no gradient, is resampled linearly to the Mentee's size.
3. Tokens and map: T = h * w tokens, or 1 + h * w with a class token, which is dropped, become a map; then as maps.
4. Tokens and tokens of another number: as maps, where both numbers are those of square maps; otherwise as sequences.
5. A sequence of a signal and a map have no places in common: the mean of each.
"""

from dataclasses import dataclass
from math import isqrt, prod
from typing import Literal

import numpy as np

from mmd_tools.fuse import edit
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.pooling import Window, average

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One change of a layer; `size` is what it ends in, or the window that it averages."""

    kind: Literal["mean", "drop first", "channels first", "reshape", "average", "resample"]
    size: Shape = ()


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Layer:
    """A tensor of a network as a layer with channels and places."""

    shape: Shape
    """Without the batch, as the network has it."""
    is_tokens: bool = False
    """[T, D]: the channels come last."""

    @property
    def places(self) -> Shape:
        return self.shape[:-1] if self.is_tokens else self.shape[1:]

    @property
    def channels(self) -> int:
        return self.shape[-1] if self.is_tokens else self.shape[0]


def layer_of(network: Network, tensor: str) -> Layer:
    shape = network.shapes[tensor]
    return Layer(shape, is_tokens=len(shape) == 2 and _has_channels_last(network, tensor))


_FIRST = frozenset(["Conv", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "InstanceNormalization", "LRN"])
_LAST = frozenset(["MatMul", "Gemm", "LayerNormalization", "Einsum", "QLinearMatMul", "Gather"])


def _has_channels_last(network: Network, tensor: str) -> bool:
    """Follow the tensor back to an operator that says where channels lie. What nothing says is a signal's sequence."""
    producers = {name: node for node in network.model.graph.node for name in node.output}
    turned = False
    while (node := producers.get(tensor)) is not None:
        if node.op_type in _FIRST | _LAST:
            return (node.op_type in _LAST) != turned
        known = [name for name in node.input if name in network.shapes]
        if not known:
            break
        before = max(known, key=lambda name: prod(network.shapes[name]))
        old, new = network.shapes[before], network.shapes[tensor]
        if node.op_type == "Transpose":
            perm = edit.attribute(node, "perm", [])
            turned ^= perm == [0, 2, 1]
        elif old != new and len(old) > len(new) and old[0] != new[0] and not turned:
            return True  # places were joined in front of the channels
        tensor = before
    return turned


def align(ours: Layer, theirs: Layer) -> tuple[Steps, Steps]:
    """Return what each side goes through. Raises `ValueError` for a layer of more than three dimensions."""
    for layer in (ours, theirs):
        if not 1 <= len(layer.shape) <= 3:
            raise ValueError(f"{list(layer.shape)} is no row, sequence, tokens or map")
    if not ours.places or not theirs.places:
        return _mean(ours), _mean(theirs)
    if ours.places == theirs.places:
        return _first(ours), _first(theirs)
    if len(ours.places) == len(theirs.places) and not (ours.is_tokens and theirs.is_tokens):
        return _matched(ours.places, theirs.places, _first(ours), _first(theirs))
    grids = _grid(ours, theirs), _grid(theirs, ours)
    if grids[0] and grids[1]:
        return _matched(grids[0], grids[1], _as_map(ours, grids[0]), _as_map(theirs, grids[1]))
    if len(ours.places) == len(theirs.places):
        return _matched(ours.places, theirs.places, _first(ours), _first(theirs))
    return _mean(ours), _mean(theirs)


def _mean(layer: Layer) -> Steps:
    return (*_first(layer), Step("mean")) if layer.places else ()


def _first(layer: Layer) -> Steps:
    return (Step("channels first"),) if layer.is_tokens else ()


def _grid(layer: Layer, other: Layer) -> Shape | None:
    """Return the map [h, w] that the layer's places are, if they can be one."""
    if len(layer.places) == 2:
        return layer.places
    if not layer.is_tokens:
        return None
    (count,) = layer.places
    for tokens in (count, count - 1):
        if len(other.places) == 2 and tokens == prod(other.places):
            return other.places
    for tokens in (count, count - 1):
        side = isqrt(tokens)
        if side and side * side == tokens:
            return side, side
    return None


def _as_map(layer: Layer, grid: Shape) -> Steps:
    if len(layer.places) == 2:
        return ()
    drop = (Step("drop first"),) if layer.places[0] != prod(grid) else ()
    return (*drop, Step("channels first"), Step("reshape", grid))


def _matched(ours: Shape, theirs: Shape, our_steps: Steps, their_steps: Steps) -> tuple[Steps, Steps]:
    if ours == theirs:
        return our_steps, their_steps
    if all(their % our == 0 for our, their in zip(ours, theirs, strict=True)):
        window = tuple(their // our for our, their in zip(ours, theirs, strict=True))
        return our_steps, (*their_steps, Step("average", window))
    if all(our % their == 0 for our, their in zip(ours, theirs, strict=True)):
        window = tuple(our // their for our, their in zip(ours, theirs, strict=True))
        return (*our_steps, Step("average", window)), their_steps
    return our_steps, (*their_steps, Step("resample", ours))


def after(shape: Shape, steps: Steps) -> Shape:
    """Return what a layer of `shape` is after `steps`."""
    for step in steps:
        if step.kind == "mean":
            shape = shape[:1]
        elif step.kind == "drop first":
            shape = (shape[0] - 1, *shape[1:])
        elif step.kind == "channels first":
            shape = (shape[1], shape[0])
        elif step.kind == "average":
            shape = (shape[0], *(size // window for size, window in zip(shape[1:], step.size, strict=True)))
        else:
            shape = (shape[0], *step.size)
    return shape


def add_steps(nodes: Nodes, x: str, shape: Shape, steps: Steps) -> str:
    """Add the steps, in operators that can be trained unless they resample; return the name of the result."""
    for step in steps:
        end = after(shape, (step,))
        if step.kind == "mean":
            x = nodes.add("ReduceMean", [x], axes=list(range(2, len(shape) + 1)), keepdims=0)
        elif step.kind == "drop first":
            bounds = [nodes.constant([value], np.int64) for value in (1, shape[0], 1)]
            x = nodes.add("Slice", [x, *bounds])
        elif step.kind == "channels first":
            x = nodes.add("Transpose", [x], perm=[0, 2, 1])
        elif step.kind == "reshape":
            x = nodes.add("Reshape", [x, nodes.constant([0, *end], np.int64)])
        elif step.kind == "average":
            x = average(nodes, x, shape, end, Window(step.size, step.size, (0,) * 2 * len(step.size), False))
        else:
            x = _resampled(nodes, x, end)
        shape = end
    return x


def _resampled(nodes: Nodes, x: str, end: Shape) -> str:
    """Linear interpolation to the places of `end`; a sequence as a map of height 1, which every runtime resizes."""
    is_sequence = len(end) == 2
    axis = nodes.constant([2], np.int64)
    x = nodes.add("Unsqueeze", [x, axis]) if is_sequence else x
    batch = nodes.add("Shape", [x], start=0, end=1)
    rest = nodes.constant((end[0], 1, end[1]) if is_sequence else end, np.int64)
    x = nodes.add("Resize", [x, "", "", nodes.add("Concat", [batch, rest], axis=0)], mode="linear")
    return nodes.add("Squeeze", [x, axis]) if is_sequence else x
