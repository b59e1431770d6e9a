"""How do Mentor, Mentee and loss become one graph? Two forward graphs: fused, and cached with the Mentor as inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.edit import BATCH
from mmd_tools.fuse.losses import HINT_LOSSES, SOFT_LOSSES, Nodes, Terms, label_loss, without_spare
from mmd_tools.fuse.network import IR_VERSION, OPSET, Network
from mmd_tools.fuse.probes import TARGET_PREFIX, Probe, add_target, compared
from mmd_tools.fuse.scopes import STOP_PREFIX, scoped
from mmd_tools.fuse.trained import trained_form

MENTOR_PREFIX = "mentor/"
LOSS_PREFIX = "loss/"
UPDATE_INPUTS = frozenset({"learning_rate", "weight_decay", "clip_norm", "step"})
RESERVED = UPDATE_INPUTS | {"labels", "alpha", "gamma", "temperature", "loss", "lazy_reset_grad"}
RESERVED_ENDS = (".m1", ".m2", ".next", ".grad", "_grad")
PLAIN = Terms()
RESERVED_STARTS = ("beta.", "loss.", "projector.", "dropout.", MENTOR_PREFIX, LOSS_PREFIX, TARGET_PREFIX, STOP_PREFIX)


@dataclass(frozen=True)
class ForwardGraph:
    """A graph from the inputs to the losses, with every weight inside."""

    model: onnx.ModelProto
    trainable: tuple[str, ...]
    """The Mentee's weights, then the projectors."""
    stops: dict[str, str] = field(default_factory=dict)
    """Inputs that stand for tensors until the gradient is built; see `mmd_tools.fuse.scopes`."""


def reserve_names(network: Network) -> dict[str, str]:
    """Return new names for the Mentee's tensors that would clash with the inputs and outputs of the step."""
    names = edit.all_tensors(network.model) | set(edit.constants(network.model))
    return {
        name: f"mentee/{name}"
        for name in sorted(names)
        if name in RESERVED or name.startswith(RESERVED_STARTS) or name.endswith(RESERVED_ENDS)
    }


def mentor_name(name: str, mentor: Network) -> str:
    """Return the name of one of the Mentor's tensors in `mentor.onnx` and in every training graph."""
    return name if name == mentor.input else f"{MENTOR_PREFIX}{name}"


def prefixed(mentor: Network, input_name: str) -> onnx.ModelProto:
    """Return a copy of the Mentor under its prefixed names, without outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(mentor.model)
    tensors = edit.all_tensors(model) | set(edit.constants(model))
    new_names = {name: f"{MENTOR_PREFIX}{name}" for name in tensors if name}
    new_names[mentor.input] = input_name
    edit.rename(model, new_names)
    for node in model.graph.node:
        node.name = f"{MENTOR_PREFIX}{node.name}"
    del model.graph.value_info[:]
    del model.graph.output[:]
    return model


def mentor_model(mentor: Network, input_name: str, probes: Sequence[Probe]) -> onnx.ModelProto:
    """Return the Mentor with the logits and the targets of all probes as outputs."""
    model = prefixed(mentor, input_name)
    for probe in probes:
        nodes = Nodes(f"{probe.target}/")
        add_target(nodes, probe, f"{MENTOR_PREFIX}{probe.mentor}")
        model.graph.node.extend(nodes.nodes)
        model.graph.initializer.extend(nodes.initializers)
    model.graph.output.extend(_value(name, shape) for name, shape in mentor_outputs(mentor, probes).items())
    model.graph.name = "mentor"
    edit.remove_dead(model)
    return model


def mentor_outputs(mentor: Network, probes: Sequence[Probe]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of what the losses read of the Mentor, each once, the logits first."""
    logits = {f"{MENTOR_PREFIX}{mentor.logits}": (mentor.classes,)}
    return logits | {probe.target: probe.target_shape for probe in probes}


def forward_graph(
    mentee: Network,
    mentor: Network | None,
    probes: Sequence[Probe],
    *,
    is_cached: bool,
    seed: int,
    kinds: Terms = PLAIN,
) -> ForwardGraph:
    """Build the graph from inputs to losses. Without a Mentor the soft loss is 0 and there are no hints."""
    graph = onnx.GraphProto(name="cached" if is_cached else "fused")
    graph.input.extend(_inputs(mentee, len(probes)))
    pooled = Nodes()
    layers = scoped(trained_form(mentee, pooled), mentee, probes)
    graph.input.extend(_value(name, mentee.shapes[tensor]) for name, tensor in layers.stops.items())
    graph.node.extend(layers.nodes)
    graph.initializer.extend(pooled.initializers)
    graph.initializer.extend(mentee.model.graph.initializer)
    if mentor is not None and is_cached:
        graph.input.extend(_value(name, shape) for name, shape in mentor_outputs(mentor, probes).items())
    elif mentor is not None:
        frozen = mentor_model(mentor, mentee.input, probes)
        graph.node.extend(frozen.graph.node)
        graph.initializer.extend(frozen.graph.initializer)
    nodes = _loss_nodes(mentee, mentor, probes, seed, kinds, layers.probed)
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.initializers)
    terms = ["loss", "loss.label", "loss.soft", *(f"loss.hint.{probe.index}" for probe in probes)]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in terms)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    projectors = [probe.projector for probe in probes if probe.projector is not None]
    # The tensors that are stopped are outputs as well, so that nothing fuses them away before they are joined.
    graph_outputs = dict.fromkeys(layers.stops.values())
    model.graph.output.extend(_value(name, mentee.shapes[name]) for name in graph_outputs)
    return ForwardGraph(model, (*mentee.weights, *projectors), layers.stops)


def _inputs(mentee: Network, probe_count: int) -> list[onnx.ValueInfoProto]:
    scalars = ["alpha", *(f"beta.{index}" for index in range(probe_count)), "gamma", "temperature"]
    return [
        _value(mentee.input, mentee.input_shape),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [BATCH]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in scalars),
        *(_value(dropout.name, dropout.shape) for dropout in mentee.dropouts),
    ]


def _value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def _loss_nodes(
    mentee: Network,
    mentor: Network | None,
    probes: Sequence[Probe],
    seed: int,
    kinds: Terms,
    probed: Mapping[int, str],
) -> Nodes:
    nodes = Nodes(LOSS_PREFIX)
    label_loss(nodes, mentee.logits, kinds, out="loss.label")
    terms = [("alpha", "loss.label")]
    if mentor is None:
        # 0, computed from the inputs that would otherwise be unused, so that every set takes the same ones.
        zero = nodes.add("Sub", ["gamma", "gamma"])
        nodes.add("Mul", [zero, "temperature"], out="loss.soft")
    else:
        # Both softmaxes run over the classes that the Mentor knows, so that it says nothing about a spare output, as
        # old classes are distilled while a new one is learned in Li & Hoiem, arXiv:1606.09282.
        theirs, ours = f"{MENTOR_PREFIX}{mentor.logits}", without_spare(nodes, mentee.logits, kinds)
        SOFT_LOSSES[kinds.soft](nodes, theirs, ours, kinds, out="loss.soft")
        terms.append(("gamma", "loss.soft"))
    for probe in probes:
        ours, theirs = compared(nodes, probe, probed[probe.index], seed)
        HINT_LOSSES[probe.loss](nodes, ours, theirs, out=f"loss.hint.{probe.index}")
        terms.append((f"beta.{probe.index}", f"loss.hint.{probe.index}"))
    _weighted_sum(nodes, terms)
    return nodes


def _weighted_sum(nodes: Nodes, terms: Sequence[tuple[str, str]]) -> None:
    """Add `loss` = SUM coefficient * term."""
    products = [nodes.add("Mul", term, out="loss" if len(terms) == 1 else None) for term in terms]
    total = products[0]
    for index, product in enumerate(products[1:], start=2):
        total = nodes.add("Add", [total, product], out="loss" if index == len(products) else None)
