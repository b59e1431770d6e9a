"""Which channels of a network must be kept or dropped together?

Every channel of every tensor is a number. Nodes that pass channels on repeat the numbers, a sum of two maps makes the
numbers of both sides one (a residual connection), Concat strings them together, Flatten repeats each for every place of
the map, a depthwise convolution hands them through, a convolution or a matrix product makes new ones. What the rules
below do not know is left whole. So a choice of numbers is a choice of rows and columns of every weight, and fits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network

Numbers = NDArray[np.int64]

_PASSING = frozenset(
    [
        "Abs",
        "AveragePool",
        "Clip",
        "Cos",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "MaxPool",
        "Neg",
        "Relu",
        "Resize",
        "Sigmoid",
        "Sin",
        "Softplus",
        "Sqrt",
        "Tanh",
    ]
)
_ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min"))


@dataclass(frozen=True)
class Weight:
    """One weight and the channels that its rows and columns belong to."""

    name: str
    axes: dict[int, Numbers]
    """By axis of the tensor."""


@dataclass
class Channels:
    """The numbers of every tensor's channels, and the weights that they cut."""

    network: Network
    of: dict[str, Numbers] = field(default_factory=dict)
    weights: list[Weight] = field(default_factory=list)
    made_by: list[tuple[onnx.NodeProto, Numbers]] = field(default_factory=list)
    """Each convolution or product that makes channels, and which."""
    whole: set[int] = field(default_factory=set)
    """Numbers of channels that must stay."""
    _same_as: list[int] = field(default_factory=list)
    """A union-find forest: of each number one that is the same channel, of a root itself."""

    def fresh(self, count: int) -> Numbers:
        """Return `count` numbers that no channel has yet."""
        start = len(self._same_as)
        self._same_as.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, number: int) -> int:
        """Return the number that stands for all that are the same channel as `number`."""
        while self._same_as[number] != number:
            self._same_as[number] = self._same_as[self._same_as[number]]
            number = self._same_as[number]
        return number

    def roots(self, numbers: Numbers) -> Numbers:
        return np.array([self.root(int(number)) for number in numbers], np.int64)

    def unite(self, ours: Numbers, theirs: Numbers) -> None:
        """Make each of `ours` the same channel as its counterpart: both stay, or both go."""
        for one, other in zip(ours, theirs, strict=True):
            self._same_as[self.root(int(one))] = self.root(int(other))

    def keep_whole(self, numbers: Numbers) -> None:
        self.whole.update(int(number) for number in numbers)

    def groups(self) -> Iterator[Numbers]:
        """Yield the channels that compete with one another: those that the same nodes make, by their roots."""
        makers: dict[int, set[int]] = {}
        for index, (_, numbers) in enumerate(self.made_by):
            for root in self.roots(numbers):
                makers.setdefault(int(root), set()).add(index)
        whole = {self.root(number) for number in self.whole}
        alike: dict[frozenset[int], list[int]] = {}
        for root, indices in makers.items():
            if root not in whole:
                alike.setdefault(frozenset(indices), []).append(root)
        for members in alike.values():
            yield np.array(sorted(members), np.int64)


def trace_channels(network: Network) -> Channels:
    """Number every channel of the network."""
    channels = Channels(network)
    channels.of[network.input] = channels.fresh(network.input_shape[0])
    channels.keep_whole(channels.of[network.input])
    constants, readers = edit.constants(network.model), edit.consumers(network.model)
    for node in network.model.graph.node:
        rule = _RULES.get(node.op_type, _unknown)
        if any(name in constants and len(readers[name]) > 1 and _is_weight(constants[name]) for name in node.input):
            rule = _unknown  # a weight that another node reads too cannot be cut for one of them
        if any(name in channels.of for name in node.input):
            rule(channels, node, constants)
    channels.keep_whole(channels.of[network.logits])
    return channels


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 0


def _shape(channels: Channels, name: str) -> tuple[int, ...]:
    network = channels.network
    return network.input_shape if name == network.input else network.shapes.get(name, ())


_Constants = dict[str, onnx.TensorProto]


def _unknown(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    """Leave everything that it reads whole, and what it makes too."""
    for name in node.input:
        if name in channels.of:
            channels.keep_whole(channels.of[name])
    for name in node.output:
        shape = _shape(channels, name)
        if shape:
            channels.of[name] = channels.fresh(shape[0])
            channels.keep_whole(channels.of[name])


def _passing(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    channels.of[node.output[0]] = channels.of[node.input[0]]


def _conv(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    source, weight = channels.of[node.input[0]], constants.get(node.input[1])
    group = edit.whole(node, "group", 1)
    if weight is None or (group > 1 and weight.dims[1] != 1) or (group > 1 and weight.dims[0] != len(source)):
        _unknown(channels, node, constants)
        return
    if group > 1:
        made = source
        channels.weights.append(Weight(weight.name, {0: source}))
    else:
        made = channels.fresh(weight.dims[0])
        channels.weights.append(Weight(weight.name, {0: made, 1: source}))
    channels.made_by.append((node, made))
    _bias(channels, node, made, constants)
    channels.of[node.output[0]] = made


def _bias(channels: Channels, node: onnx.NodeProto, made: Numbers, constants: _Constants) -> None:
    if len(node.input) > 2 and node.input[2] in constants:
        channels.weights.append(Weight(node.input[2], {len(constants[node.input[2]].dims) - 1: made}))


def _product(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    source, weight = channels.of.get(node.input[0]), constants.get(node.input[1])
    is_row = len(_shape(channels, node.input[0])) == 1
    if source is None or weight is None or not is_row or len(weight.dims) != 2 or edit.whole(node, "transA", 0):
        _unknown(channels, node, constants)
        return
    out_axis = 0 if edit.whole(node, "transB", 0) else 1
    made = channels.fresh(weight.dims[out_axis])
    channels.weights.append(Weight(weight.name, {out_axis: made, 1 - out_axis: source}))
    channels.made_by.append((node, made))
    _bias(channels, node, made, constants)
    channels.of[node.output[0]] = made


def _elementwise(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    known = [name for name in node.input if name in channels.of]
    rank = len(_shape(channels, node.output[0]))
    same = all(len(channels.of[name]) == len(channels.of[known[0]]) for name in known)
    axes = {
        name: _channel_axis(constants[name], rank, len(channels.of[known[0]]))
        for name in node.input
        if name in constants
    }
    if not same or len(known) + len(axes) < len(node.input) or None in axes.values():
        _unknown(channels, node, constants)
        return
    for name in known[1:]:
        channels.unite(channels.of[name], channels.of[known[0]])
    for name, axis in axes.items():
        if axis is not None and axis >= 0:
            channels.weights.append(Weight(name, {axis: channels.of[known[0]]}))
    channels.of[node.output[0]] = channels.of[known[0]]


def _channel_axis(tensor: onnx.TensorProto, rank: int, count: int) -> int | None:
    """Return the axis of a constant that meets the channels: -1 for none (a scalar), None where it cannot be told."""
    dims = list(tensor.dims)
    axis = len(dims) - rank
    if len(dims) <= rank - 1 or dims[axis] == 1:
        return -1 if len(dims) < rank or dims[axis] == 1 else None
    return axis if dims[axis] == count else None


def _concat(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    if edit.whole(node, "axis", 0) != 1 or any(name not in channels.of for name in node.input):
        _unknown(channels, node, constants)
        return
    channels.of[node.output[0]] = np.concatenate([channels.of[name] for name in node.input])


def _flat(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    """A map becomes a row: each channel stands at as many places as the map had; anything else is unknown."""
    before, after = _shape(channels, node.input[0]), _shape(channels, node.output[0])
    if len(after) != 1 or not before or node.input[0] not in channels.of:
        _unknown(channels, node, constants)
        return
    channels.of[node.output[0]] = np.repeat(channels.of[node.input[0]], int(np.prod(before[1:])))


def _mean(channels: Channels, node: onnx.NodeProto, constants: _Constants) -> None:
    """A mean over the places keeps the channels; one over the channels does not."""
    before, after = _shape(channels, node.input[0]), _shape(channels, node.output[0])
    if len(before) != 3 or not after or after[0] != before[0]:
        _unknown(channels, node, constants)
        return
    channels.of[node.output[0]] = channels.of[node.input[0]]


_Rule = Callable[[Channels, onnx.NodeProto, _Constants], None]

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_PASSING, _passing),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flat,
    "Gemm": _product,
    "MatMul": _product,
    "ReduceMean": _mean,
    "Reshape": _flat,
    "Squeeze": _flat,
}
