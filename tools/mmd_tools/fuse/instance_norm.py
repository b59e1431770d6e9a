"""How are InstanceNormalization and GroupNormalization trained? In sums, products and a root, which have gradients."""

from collections.abc import Sequence

from mmd_tools.fuse import edit
from mmd_tools.fuse.steps import Steps


def instance_normalization(s: Steps) -> None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance of each map"""
    spatial = len(s.sizes(s.x)) - 1
    normal = _standardised(s, s.x, range(2, 2 + spatial))
    _scaled(s, normal, spatial, last=True)


def group_normalization(s: Steps) -> None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance of each group of maps"""
    groups, entries = edit.whole(s.node, "num_groups", 1), s.given(1).size
    normal = _standardised(s, s.reshape(s.x, groups, -1), [2])
    # One scale a channel since opset 21, one a group before.
    scaled = _scaled(s, normal if entries == groups else s.reshape(normal, entries, -1), 1)
    s.emit("Reshape", scaled, s.emit("Shape", s.x), last=True)


def _standardised(s: Steps, x: str, axes: Sequence[int]) -> str:
    centred = s.emit("Sub", x, s.mean(x, axes))
    variance = s.mean(s.emit("Mul", centred, centred), axes)
    deviation = s.emit("Sqrt", s.emit("Add", variance, s.scalar(edit.number(s.node, "epsilon", 1e-5))))
    return s.emit("Div", centred, deviation)


def _scaled(s: Steps, x: str, spatial: int, *, last: bool = False) -> str:
    columns = []
    for index in (1, 2):
        column = s.given(index).reshape(-1, *[1] * spatial)
        columns.append(edit.add_constant(s.model, f"{s.node.input[index]}.column", column))
    return s.emit("Add", s.emit("Mul", x, columns[0]), columns[1], last=last)
