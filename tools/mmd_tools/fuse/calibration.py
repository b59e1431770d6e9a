"""What do two paired layers have in common on the replay samples? Their first and second moments, place by place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from mmd.artifact.load import normalise
from mmd.artifact.manifest import InputSpec
from mmd.artifact.session import open_session
from mmd_tools.fuse import edit
from mmd_tools.fuse.graphs import MENTOR_PREFIX, prefixed
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import IR_VERSION, OPSET, Network
from mmd_tools.fuse.probes import Probe, aligned

BATCH_SIZE = 32
MOST_SAMPLES = 1024

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over samples and places, with s the Mentee's channels and m the Mentor's, at the same places."""

    count: int
    ours: Doubles
    """SUM s, [channels of the Mentee]"""
    theirs: Doubles
    our_products: Doubles
    """SUM s s^T"""
    mixed_products: Doubles
    """SUM s m^T"""
    their_products: Doubles
    """SUM m m^T; its diagonal only, [channels of the Mentor], where nothing asks for more."""

    @property
    def covariance(self) -> Doubles:
        """[channels of the Mentee, channels of the Mentor]"""
        return self.mixed_products / self.count - np.outer(self.ours, self.theirs) / self.count**2

    @property
    def correlation(self) -> Doubles:
        """Of every channel with every other one; 0 for a channel that never moves."""
        diagonal = self.their_products if self.their_products.ndim == 1 else np.diag(self.their_products)
        our_variance = np.diag(self.our_products) / self.count - (self.ours / self.count) ** 2
        their_variance = diagonal / self.count - (self.theirs / self.count) ** 2
        scale = np.sqrt(np.outer(our_variance.clip(0), their_variance.clip(0)))
        return np.divide(self.covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12)

    @property
    def is_finite(self) -> bool:
        parts = (self.our_products, self.mixed_products, self.their_products)
        return all(bool(np.isfinite(part).all()) for part in parts)


def measure(
    mentor: Network, mentee: Network, probes: Sequence[Probe], replay: NDArray[np.generic], spec: InputSpec
) -> dict[int, Moments]:
    """Return the moments of the pairs whose widths have to be brought together, by the pair's index.

    `replay` [n, *shape] is as stored.
    """
    asked = [probe for probe in probes if probe.needs_calibration]
    if not asked:
        return {}
    model, names = _features(mentor, mentee, asked)
    session = open_session(model.SerializeToString())
    sums: list[list[Doubles]] = []
    count = [0] * len(asked)
    for at in range(0, min(len(replay), MOST_SAMPLES), BATCH_SIZE):
        batch = normalise(replay[at : at + BATCH_SIZE], spec)
        for index, probe in enumerate(asked):
            ours, theirs = (_rows(values) for values in session.run(list(names[index]), {mentee.input: batch}))
            found = _sums(ours, theirs, needs_all=probe.width == "pca")
            count[index] += len(ours)
            if at == 0:
                sums.append(found)
            else:
                for total, part in zip(sums[index], found, strict=True):
                    total += part
    return {probe.index: Moments(n, *total) for probe, n, total in zip(asked, count, sums, strict=True)}


def _sums(ours: Doubles, theirs: Doubles, *, needs_all: bool) -> list[Doubles]:
    their_products = theirs.T @ theirs if needs_all else (theirs**2).sum(0)
    return [ours.sum(0), theirs.sum(0), ours.T @ ours, ours.T @ theirs, their_products]


def _features(
    mentor: Network, mentee: Network, probes: Sequence[Probe]
) -> tuple[onnx.ModelProto, list[tuple[str, str]]]:
    """Return both networks in one graph, and the two tensors of each probe, at the same places."""
    frozen = prefixed(mentor, mentee.input)
    nodes = Nodes("fit/")
    names = [aligned(nodes, probe, f"{MENTOR_PREFIX}{probe.mentor}") for probe in probes]
    own = mentee.model.graph
    shown = dict.fromkeys(name for pair in names for name in pair)
    graph = helper.make_graph(
        [*own.node, *frozen.graph.node, *nodes.nodes],
        "features",
        list(own.input),
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in shown],
        [*own.initializer, *frozen.graph.initializer, *nodes.initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    edit.remove_dead(model)
    return model, names


def _rows(values: NDArray[np.float32]) -> Doubles:
    """[n, channels, *places] as [n * places, channels]."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
