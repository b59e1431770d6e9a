"""How are two layers of different shapes made comparable? Brought to the same places, then to the same width."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.manifest import Point
from mmd.errors import UsageError
from mmd_tools.fuse.alignment import Layer, Shape, Steps, add_steps, after, align, layer_of
from mmd_tools.fuse.losses import CHANNEL_FREE, Nodes, attention_map
from mmd_tools.fuse.network import Network
from mmd_tools.nearest import nearest
from mmd_tools.recipe import ProbeRecipe, Width

Floats = NDArray[np.float32]

TARGET_PREFIX = "target/"
WIDEST_PCA = 4096
"""Channels; the principal axes of more take minutes."""


@dataclass(frozen=True, eq=False)
class FixedMap:
    """What the replay samples told about a pair: filters of the wider layer, or a projection of the Mentor's."""

    filters: tuple[int, ...] = ()
    weight: Floats | None = None
    """[channels of the Mentor, channels of the Mentee]"""
    offset: Floats | None = None


@dataclass(frozen=True, eq=False)
class Probe:
    """One probe pair, resolved: both tensors exist and can be compared."""

    index: int
    mentor: str
    mentee: str
    mentor_layer: Layer
    mentee_layer: Layer
    mentor_steps: Steps
    mentee_steps: Steps
    asked: ProbeRecipe
    fixed: FixedMap = FixedMap()

    @property
    def label(self) -> str:
        return f"probe {self.index} ({self.asked.mentor} with {self.asked.mentee})"

    @property
    def loss(self) -> str:
        return self.asked.loss

    @property
    def schedule(self) -> tuple[Point, ...]:
        return self.asked.schedule

    @property
    def width(self) -> Width | None:
        """How the widths are brought together; None where they need not be."""
        if self.loss in CHANNEL_FREE:
            return None
        width = self.asked.width or "project"
        is_level = self.mentor_layer.channels == self.mentee_layer.channels
        return None if is_level and width in ("project", "zero-pad") else width

    @property
    def needs_calibration(self) -> bool:
        return self.width in ("project", "select", "pca")

    @property
    def projector(self) -> str | None:
        return f"projector.{self.index}.weight" if self.width == "project" else None

    @property
    def target(self) -> str:
        """Name of what the Mentee is compared with, an output of `mentor.onnx`."""
        is_made = self.mentor_steps or self.narrows_mentor or self.is_attention
        return f"{TARGET_PREFIX}{self.index}" if is_made else f"mentor/{self.mentor}"

    @property
    def target_shape(self) -> Shape:
        channels, *places = after(self.mentor_layer.shape, self.mentor_steps)
        if self.is_attention:
            return (prod(places),)
        return (self.mentee_layer.channels if self.narrows_mentor else channels, *places)

    @property
    def narrows_mentor(self) -> bool:
        is_narrower = self.mentee_layer.channels <= self.mentor_layer.channels
        return self.width == "pca" or (self.width == "select" and is_narrower)

    @property
    def is_attention(self) -> bool:
        """Whether the target is a row of the Mentor's attention, place by place, and no layer."""
        return self.loss == "attention"

    @property
    def is_matrix(self) -> bool:
        """Whether the projector is a matrix for rows; otherwise it is a convolution of size 1."""
        return len(self.target_shape) == 1


def resolve_probe(index: int, asked: ProbeRecipe, mentor: Network, mentee: Network) -> Probe:
    """Look both tensors up. Raises `UsageError` for a name that is not there or shapes that do not map."""
    mentor_name = _find(asked.mentor, mentor)
    mentee_name = _find(asked.mentee, mentee)
    ours, theirs = layer_of(mentee, mentee_name), layer_of(mentor, mentor_name)
    probe = Probe(index, mentor_name, mentee_name, theirs, ours, (), (), asked)
    if asked.loss == "similarity":
        return probe
    try:
        our_steps, their_steps = align(ours, theirs)
    except ValueError as error:
        raise UsageError(
            f"The {probe.label} cannot be mapped: {error}; the loss `similarity` compares layers of any shape."
        ) from error
    if asked.loss == "attention" and len(after(ours.shape, our_steps)) == 1:
        raise UsageError(f"The {probe.label} asks for the loss `attention`, which needs maps or sequences, not rows.")
    if asked.width == "pca" and not ours.channels <= theirs.channels <= WIDEST_PCA:
        raise UsageError(
            f"The {probe.label} asks for the width `pca`, but the mentor's layer has {theirs.channels} channels, the "
            f"mentee's {ours.channels}; it takes as many or more, {WIDEST_PCA} at most: use `project` or `select`."
        )
    return Probe(index, mentor_name, mentee_name, theirs, ours, their_steps, our_steps, asked)


def _find(name: str, network: Network) -> str:
    found = network.folded.get(name, name)
    found = network.folded.get(found, found)
    if name in network.folded and found not in network.shapes:
        found = name
    if found not in network.shapes:
        raise UsageError(
            f"The {network.role} {network.source} has no tensor `{name}` to probe; {nearest(name, set(network.shapes))}"
        )
    return found


def aligned(nodes: Nodes, probe: Probe, mentor: str) -> tuple[str, str]:
    """Add the steps of both sides; return (mentee's side, mentor's side), each with its own channels."""
    ours = add_steps(nodes, probe.mentee, probe.mentee_layer.shape, probe.mentee_steps)
    return ours, add_steps(nodes, mentor, probe.mentor_layer.shape, probe.mentor_steps)


def add_target(nodes: Nodes, probe: Probe, mentor: str) -> None:
    """Add what brings the Mentor's layer to `probe.target`; nothing where it is compared as it is."""
    if not probe.target.startswith(TARGET_PREFIX):
        return
    x = add_steps(nodes, mentor, probe.mentor_layer.shape, probe.mentor_steps)
    if probe.is_attention:
        x = attention_map(nodes, x)
    elif probe.width == "pca":
        x = _projected(nodes, probe, x)
    elif probe.narrows_mentor:
        x = nodes.add("Gather", [x, nodes.constant(probe.fixed.filters, np.int64)], axis=1)
    nodes.add("Identity", [x], out=probe.target)


def _projected(nodes: Nodes, probe: Probe, x: str) -> str:
    assert probe.fixed.weight is not None
    assert probe.fixed.offset is not None
    weight, places = probe.fixed.weight, len(probe.target_shape) - 1
    if not places:
        return nodes.add("Gemm", [x, nodes.constant(weight), nodes.constant(probe.fixed.offset)])
    kernel = nodes.constant(weight.T.reshape(*weight.T.shape, *(1,) * places))
    return nodes.add("Conv", [x, kernel, nodes.constant(probe.fixed.offset)])


def compared(nodes: Nodes, probe: Probe, mentee: str, seed: int) -> tuple[str, str]:
    """Add what brings the Mentee's layer to its target; return (mentee's side, mentor's side), of one shape.

    `mentee` is the probed tensor, or what stands for it.
    """
    ours, theirs = add_steps(nodes, mentee, probe.mentee_layer.shape, probe.mentee_steps), probe.target
    missing = probe.target_shape[0] - probe.mentee_layer.channels
    if probe.projector is not None:
        weight = nodes.initializer(probe.projector, projector_start(probe, seed))
        ours = nodes.add("MatMul" if probe.is_matrix else "Conv", [ours, weight])
    elif probe.width == "select" and missing < 0:
        ours = nodes.add("Gather", [ours, nodes.constant(probe.fixed.filters, np.int64)], axis=1)
    elif probe.width == "zero-pad" and missing > 0:
        ours = _padded(nodes, ours, missing, len(probe.target_shape))
    elif probe.width == "zero-pad":
        theirs = _padded(nodes, theirs, -missing, len(probe.target_shape))
    return ours, theirs


def _padded(nodes: Nodes, x: str, channels: int, rank: int) -> str:
    """Append channels of 0."""
    pads = np.zeros((2, rank + 1), np.int64)
    pads[1, 1] = channels
    return nodes.add("Pad", [x, nodes.constant(pads.ravel(), np.int64)])


def projector_start(probe: Probe, seed: int) -> Floats:
    """Normal with variance 1 / (features of the Mentee), from the recipe's seed and the probe's place."""
    rng = np.random.default_rng([seed, probe.index])
    ours, theirs = probe.mentee_layer.channels, probe.mentor_layer.channels
    ones = (1,) * (len(probe.target_shape) - 1)
    shape = (theirs, ours, *ones) if ones else (ours, theirs)
    return np.asarray(rng.standard_normal(shape) / np.sqrt(ours), np.float32)
