"""How far does the gradient of a hint go, and whose gradient may pass its layer? Three scopes.

- `whole`: nothing is held up. A hint trains everything that the probed tensor is computed from, beside the other terms.
- `up-to-probe`: the probe is a wall. What lies below it (every layer that the probed tensor is computed from) learns
  from this hint, and from hints that lie below it too, but from nothing that is computed above it: labels, soft
  targets, hints of later layers. Shortcuts around the probe are walled as well; a weight that layers on both sides
  share learns from both.
- `layer`: the hint trains the nearest layer with a kernel (Conv, ConvTranspose, Gemm, MatMul) on every way back from
  the probe, with the biases and norms between it and the probe, and its projector; nothing before that layer.

ONNX has no operator that stops a gradient. So while the gradient is built, a stopped tensor is read from a graph input
that stands for it, and a gradient ends at an input; afterwards the input is joined to the tensor, and costs nothing.
The nodes of a target layer are computed twice in the forward graph, with equal inputs once these are joined: what
removes equal nodes keeps one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx

from mmd.errors import UsageError
from mmd_tools.fuse import edit
from mmd_tools.fuse.network import Network
from mmd_tools.fuse.probes import Probe

STOP_PREFIX = "stop/"
_KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass
class Scoped:
    """The Mentee's nodes with walls in them, and with a copy of each layer that a hint trains alone."""

    mentee: Network
    nodes: list[onnx.NodeProto]
    probed: dict[int, str]
    """What each hint reads, by the index of its pair."""
    stops: dict[str, str] = field(default_factory=dict)
    """The inputs that stand for tensors: name of the input, name of the tensor."""
    stopped: list[onnx.NodeProto] = field(default_factory=list)
    """Copies of nodes that read stopped tensors only."""

    def stop(self, tensor: str) -> str:
        """Return what stands for `tensor`: an input, or, where it is no row a sample, a copy of what makes it."""
        name = f"{STOP_PREFIX}{tensor}"
        if tensor in self.mentee.shapes:
            self.stops[name] = tensor
        elif not any(name in node.output for node in self.stopped):
            self._copy_before(tensor)
        return name

    def _copy_before(self, tensor: str) -> None:
        producers = _producers(self.nodes)
        copy = _copy(producers[tensor])
        if set(self.mentee.weights).intersection(copy.input):
            raise UsageError(
                f"The scopes of the probes would stop the gradient at {tensor}, which is no row a sample; "
                "choose another layer, or let them be `whole`."
            )
        copy.name = f"{STOP_PREFIX}{copy.name}"
        copy.input[:] = [self.stop(name) if name in producers else name for name in copy.input]
        copy.output[:] = [f"{STOP_PREFIX}{name}" if name else "" for name in copy.output]
        self.stopped.append(copy)


def scoped(nodes: Sequence[onnx.NodeProto], mentee: Network, probes: Sequence[Probe]) -> Scoped:
    """Build the scopes of all hints into copies of `nodes`.

    Raises `UsageError` where scopes contradict each other: a weight, or the labels, would have nothing to do.
    """
    made = Scoped(mentee, [_copy(node) for node in nodes], {probe.index: probe.mentee for probe in probes})
    if all(probe.asked.scope == "whole" for probe in probes):
        return made
    for probe in probes:
        if probe.asked.scope == "up-to-probe":
            _build_wall(made, mentee, probe)
    for probe in probes:
        if probe.asked.scope == "layer":
            _copy_layer(made, mentee, probe)
    _refuse_idle_weights(made, mentee)
    made.nodes[:0] = made.stopped
    return made


def join(model: onnx.ModelProto, stops: dict[str, str]) -> None:
    """Let every node read the tensor itself again; the gradient has been built."""
    if not stops:
        return
    for name, tensor in stops.items():
        edit.replace_uses(model, name, tensor)
    graph = model.graph
    graph.value_info.extend(value for value in graph.output if value.name in stops.values())
    for kept, gone in ((graph.input, set(stops)), (graph.output, set(stops.values()))):
        left = [value for value in kept if value.name not in gone]
        del kept[:]
        kept.extend(left)
    edit.sort_nodes(model)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _producers(nodes: Sequence[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    return {name: node for node in nodes for name in node.output}


def _leading_to(nodes: Sequence[onnx.NodeProto], tensors: Sequence[str]) -> set[str]:
    """Return every tensor that `tensors` are computed from, themselves included."""
    needed = set(tensors)
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
    return needed


def _build_wall(made: Scoped, mentee: Network, probe: Probe) -> None:
    # A wall that is there already hides what lies below it; the tensors behind the stops count all the same.
    below = _leading_to([*made.stopped, *made.nodes], [probe.mentee])
    while hidden := {made.stops[name] for name in below if name in made.stops} - below:
        below |= _leading_to([*made.stopped, *made.nodes], sorted(hidden))
    if mentee.logits in below:
        raise UsageError(
            f"The {probe.label} has the scope `up-to-probe` at the mentee's logits: the labels would train nothing; "
            "choose an earlier layer or another scope."
        )
    computed = set(_producers(made.nodes)) & below
    for node in made.nodes:
        if not computed.intersection(node.output):
            node.input[:] = [made.stop(name) if name in computed else name for name in node.input]


def _copy_layer(made: Scoped, mentee: Network, probe: Probe) -> None:
    prefix = f"{STOP_PREFIX}{probe.index}/"
    producers, weights = _producers(made.nodes), set(mentee.weights)
    copies: dict[str, onnx.NodeProto] = {}
    pending = [probe.mentee]
    trained: set[str] = set()
    while pending:
        node = producers[pending.pop()]
        if node.output[0] in copies:
            continue
        copy = copies[node.output[0]] = _copy(node)
        copy.name = f"{prefix}{node.name}"
        copy.output[:] = [f"{prefix}{name}" if name else "" for name in node.output]
        trained.update(weights.intersection(node.input))
        is_end = node.op_type in _KERNELS and bool(weights.intersection(node.input))
        for index, name in enumerate(node.input):
            if name in producers and is_end:
                copy.input[index] = made.stop(name)
            elif name in producers:
                copy.input[index] = f"{prefix}{name}"
                pending.append(name)
    if not trained:
        raise UsageError(f"The {probe.label} has the scope `layer`, but no weights lie before it; choose another.")
    made.nodes.extend(copies[node.output[0]] for node in list(made.nodes) if node.output[0] in copies)
    made.probed[probe.index] = f"{prefix}{probe.mentee}"


def _refuse_idle_weights(made: Scoped, mentee: Network) -> None:
    reached = _leading_to(made.nodes, [mentee.logits, *made.probed.values()])
    idle = [name for name in mentee.weights if name not in reached]
    if idle:
        raise UsageError(
            f"The scopes of the probes leave the mentee's weight {idle[0]} without a term that trains it; "
            "let one of the walls be `whole`."
        )
