"""How are two layers of different shapes made comparable? By pooling and a projector, from their shapes alone."""

from dataclasses import dataclass

import numpy as np

from mmd.artifact.manifest import Point
from mmd.errors import UsageError
from mmd_tools.fuse.losses import CHANNEL_FREE, Nodes
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.pooling import Window, average
from mmd_tools.recipe import ProbeRecipe, nearest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """One probe pair, resolved: both tensors exist and can be compared."""

    index: int
    mentor: str
    mentee: str
    mentor_shape: Shape
    mentee_shape: Shape
    loss: str
    weight: float
    schedule: tuple[Point, ...] = ()

    @property
    def needs_projector(self) -> bool:
        return self.loss not in CHANNEL_FREE and self.mentor_shape[0] != self.mentee_shape[0]

    @property
    def projector(self) -> str | None:
        return f"projector.{self.index}.weight" if self.needs_projector else None


def resolve_probe(index: int, asked: ProbeRecipe, mentor: Network, mentee: Network) -> Probe:
    """Look both tensors up. Raises `UsageError` for a name that is not there or shapes that do not map."""
    mentor_name = _find(asked.mentor, mentor)
    mentee_name = _find(asked.mentee, mentee)
    ours, theirs = mentee.shapes[mentee_name], mentor.shapes[mentor_name]
    pair = f"probe {index} ({asked.mentor} with {asked.mentee})"
    if len(ours) != len(theirs):
        raise UsageError(
            f"The {pair} cannot be mapped: a sample is {list(theirs)} in the mentor and {list(ours)} in the mentee; "
            "pair maps with maps and rows with rows."
        )
    if len(ours) not in (1, 3):
        raise UsageError(f"The {pair} cannot be mapped: {list(ours)} is neither a row nor a map of channels.")
    if asked.loss == "attention" and len(ours) != 3:
        raise UsageError(f"The {pair} asks for the loss `attention`, which needs maps of channels, not rows.")
    return Probe(index, mentor_name, mentee_name, theirs, ours, asked.loss, asked.weight, asked.schedule)


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


def compared(nodes: Nodes, probe: Probe, mentor: str, seed: int) -> tuple[str, str]:
    """Add pooling and projector; return (mentee's side, mentor's side), of one shape."""
    ours, theirs = aligned(nodes, probe, mentor)
    if probe.projector is not None:
        weight = nodes.initializer(probe.projector, projector_start(probe, seed))
        op = "Conv" if len(probe.mentee_shape) == 3 else "MatMul"
        ours = nodes.add(op, [ours, weight])
    return ours, theirs


def aligned(nodes: Nodes, probe: Probe, mentor: str) -> tuple[str, str]:
    """Add pooling; return (mentee's side, mentor's side), of one height and width, each with its own channels."""
    if len(probe.mentor_shape) == 3 and probe.mentor_shape[1:] != probe.mentee_shape[1:]:
        return _same_map(nodes, probe, mentor)
    return probe.mentee, mentor


def _same_map(nodes: Nodes, probe: Probe, mentor: str) -> tuple[str, str]:
    """Pool the larger side down; where no whole window fits, resample the Mentor's, which needs no gradient."""
    (h, w), (mentor_h, mentor_w) = probe.mentee_shape[1:], probe.mentor_shape[1:]
    if mentor_h % h == 0 and mentor_w % w == 0:
        size = [mentor_h // h, mentor_w // w]
        return probe.mentee, nodes.add("AveragePool", [mentor], kernel_shape=size, strides=size)
    if h % mentor_h == 0 and w % mentor_w == 0:
        window = Window((h // mentor_h, w // mentor_w), (h // mentor_h, w // mentor_w), (0, 0, 0, 0), False)
        after = (probe.mentee_shape[0], mentor_h, mentor_w)
        return average(nodes, probe.mentee, probe.mentee_shape, after, window), mentor
    batch = nodes.add("Shape", [mentor], start=0, end=1)
    rest = nodes.constant([probe.mentor_shape[0], h, w], np.int64)
    sizes = nodes.add("Concat", [batch, rest], axis=0)
    return probe.mentee, nodes.add("Resize", [mentor, "", "", sizes], mode="linear")


def projector_start(probe: Probe, seed: int) -> np.ndarray:
    """Normal with variance 1 / (features of the Mentee), from the recipe's seed and the probe's place."""
    rng = np.random.default_rng([seed, probe.index])
    ours, theirs = probe.mentee_shape[0], probe.mentor_shape[0]
    shape = (theirs, ours, 1, 1) if len(probe.mentee_shape) == 3 else (ours, theirs)
    return np.asarray(rng.standard_normal(shape) / np.sqrt(ours), np.float32)
