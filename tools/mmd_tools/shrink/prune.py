"""How does a network become narrower? The strongest channels of every group stay, and every weight is cut to them.

Strength is the L1 norm of a filter, relative to its layer's mean (Li et al., arXiv:1608.08710), or the mean activation
on given samples; where several layers make a channel (a residual connection) their strengths add.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network
from mmd_tools.shrink.groups import Channels, trace_channels

Doubles = NDArray[np.float64]
_BLOCK = 8
"""Channels that the fast convolutions compute at once."""


def pruned(network: Network, width: float, *, samples: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """Return the network with about `width` of the channels of every group, at least one.

    With `samples` [n, ...], as the network takes them, the channels that they excite most stay; without, those with the
    heaviest filters.
    """
    channels = trace_channels(network)
    strengths = _by_weights(channels) if samples is None else _by_activations(channels, samples)
    dropped: set[int] = set()
    for group in channels.groups():
        order = sorted(group, key=lambda root: (-strengths.get(int(root), 0.0), int(root)))
        dropped.update(int(root) for root in order[kept_count(len(group), width) :])
    return cut(channels, dropped)


def kept_count(count: int, width: float) -> int:
    """Return how many of `count` channels stay: whole blocks where there are any."""
    wanted = max(1, round(count * width))
    return min(count, max(_BLOCK, round(wanted / _BLOCK) * _BLOCK)) if wanted >= _BLOCK else wanted


def cut(channels: Channels, dropped: set[int]) -> onnx.ModelProto:
    """Return the network without the channels whose roots are `dropped`."""
    model = onnx.ModelProto()
    model.CopyFrom(channels.network.model)
    tensors = edit.constants(model)
    for weight in channels.weights:
        value = edit.array(tensors[weight.name])
        for axis, numbers in weight.axes.items():
            stays = [place for place, root in enumerate(channels.roots(numbers)) if int(root) not in dropped]
            value = np.take(value, stays, axis=axis)
        tensors[weight.name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), weight.name))
    _follow(model, channels, dropped)
    return model


def _follow(model: onnx.ModelProto, channels: Channels, dropped: set[int]) -> None:
    """Let the group count of depthwise convolutions and the targets of Reshape say the new sizes."""
    for node in model.graph.node:
        if node.op_type == "Conv" and edit.whole(node, "group", 1) > 1 and node.output[0] in channels.of:
            kept = sum(int(root) not in dropped for root in channels.roots(channels.of[node.output[0]]))
            next(entry for entry in node.attribute if entry.name == "group").i = kept
        if node.op_type == "Reshape" and node.output[0] in channels.of:
            count = sum(int(root) not in dropped for root in channels.roots(channels.of[node.output[0]]))
            if len(channels.network.shapes[node.output[0]]) == 1:
                node.input[1] = edit.add_constant(model, f"{node.output[0]}.shape", np.array([-1, count], np.int64))
    del model.graph.value_info[:]


def _by_weights(channels: Channels) -> Mapping[int, float]:
    tensors = edit.constants(channels.network.model)
    strengths: dict[int, float] = {}
    for node, numbers in channels.made_by:
        weight = np.abs(edit.array(tensors[node.input[1]]).astype(np.float64))
        along = 0 if node.op_type == "Conv" or edit.whole(node, "transB", 0) else 1
        norms = np.moveaxis(weight, along, 0).reshape(weight.shape[along], -1).sum(axis=1)
        _add(strengths, channels, numbers, norms)
    return strengths


def _by_activations(channels: Channels, samples: NDArray[np.float32]) -> Mapping[int, float]:
    from mmd.artifact.session import open_session

    watched = onnx.ModelProto()
    watched.CopyFrom(channels.network.model)
    names = [node.output[0] for node, _ in channels.made_by]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = open_session(watched.SerializeToString()).run(names, {channels.network.input: samples})
    strengths: dict[int, float] = {}
    for (_, numbers), value in zip(channels.made_by, values, strict=True):
        means = np.abs(value.astype(np.float64)).mean(axis=(0, *range(2, value.ndim)))
        _add(strengths, channels, numbers, means)
    return strengths


def _add(strengths: dict[int, float], channels: Channels, numbers: NDArray[np.int64], values: Doubles) -> None:
    level = max(float(values.mean()), 1e-30)
    for root, value in zip(channels.roots(numbers), values, strict=True):
        strengths[int(root)] = strengths.get(int(root), 0.0) + float(value) / level
