"""How does onnxruntime-training's gradient graph become one that any onnxruntime runs, optimizer included?"""

import json
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import ArtifactRefused
from mmd.training.rewriting import MARKS
from mmd_tools.lowering import simplify
from mmd_tools.lowering.emitter import Emitter, emitter_for
from mmd_tools.lowering.optimizer import CLIP, DECAY, IR_VERSION, OPTIMIZERS, RATE, STEP, clip_factor, moment_ends
from mmd_tools.lowering.table import RULES

_OLDEST_OPSET, _NEWEST_OPSET = 16, 21
"""ScatterElements adds since 16; onnxruntime 1.19.2 knows no opset after 21."""
_ACCUMULATOR = "InPlaceAccumulatorV2"
_RESET = "lazy_reset_grad"
_PASSES = (
    simplify.remove_identities,
    simplify.share_equal_nodes,
    simplify.remove_dead_nodes,
    simplify.forget_indices,
)


def lower(training_model: ModelProto, parameters: Sequence[str], optimizer: OptimizerSpec) -> ModelProto:
    """Turn `training_model` into one plain step graph: losses, gradients and the next parameters and moments.

    Adds the inputs `learning_rate`, `weight_decay`, `clip_norm` (float32 []), `step` (int64 [], 1 at the first step)
    and, for every parameter, as many moments as the optimizer keeps, `<p>.m1` and `<p>.m2`; adds the outputs
    `<p>.grad`, `<p>.next`, `<p>.m1.next`, `<p>.m2.next`. Raises `ArtifactRefused` naming the first node that the stock
    runtime would not know.
    """
    e = emitter_for(training_model)
    if not _OLDEST_OPSET <= e.opset <= _NEWEST_OPSET:
        raise ArtifactRefused(
            f"The training graph uses opset {e.opset}; build it with an opset from {_OLDEST_OPSET} to {_NEWEST_OPSET}."
        )
    gradients = _walk(e, training_model.graph)
    for parameter in parameters:
        if parameter not in gradients:
            raise ArtifactRefused(f"No gradient reaches the parameter {parameter}; freeze it, or connect it to a loss.")
        e.emit("Identity", gradients[parameter], to=f"{parameter}.grad")
    e.origin = "clip"
    factor = clip_factor(e, [gradients[parameter] for parameter in parameters])
    for parameter in parameters:
        e.origin = f"{optimizer.kind}/{parameter}"
        OPTIMIZERS[optimizer.kind](e, parameter, gradients[parameter], factor, optimizer)
    model = _assemble(e, training_model.graph, parameters, moment_ends(optimizer))
    refuse_unknown_operators(model)
    return model


def _walk(e: Emitter, graph: GraphProto) -> dict[str, str]:
    """Lower every node in order, and return the name of each parameter's gradient."""
    gradients = {}
    for node in graph.node:
        e.origin = node.name or f"{node.op_type}({node.output[0]})"
        if node.op_type == _ACCUMULATOR:
            gradients[node.input[0].removesuffix("_grad.accumulation.buffer")] = node.input[1]
        elif rule := RULES.get(node.op_type):
            rule(e, node)
        else:
            e.nodes.append(_copy(node))
    return gradients


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _assemble(e: Emitter, graph: GraphProto, parameters: Sequence[str], moments: Sequence[str]) -> ModelProto:
    outputs = _outputs(e, graph, parameters, moments)
    names = {output.name for output in outputs}
    nodes, renamed = e.nodes, simplify.Renamed()
    for clean in _PASSES:
        nodes = clean(nodes, names, renamed)
    nodes = simplify.fold_constants(nodes, names, e.initializers, e.opset)
    inputs = [v for v in graph.input if v.name != _RESET and not v.name.endswith("_grad.accumulation.buffer")]
    inputs += [
        helper.make_tensor_value_info(f"{parameter}{end}", TensorProto.FLOAT, e.shape(parameter))
        for parameter in parameters
        for end in moments
    ]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in (RATE, DECAY, CLIP)]
    inputs.append(helper.make_tensor_value_info(STEP, TensorProto.INT64, []))
    initializers = simplify.used_initializers(nodes, e.initializers)
    lowered = helper.make_graph(nodes, "portable_step", inputs, outputs, initializers)
    model = helper.make_model(
        lowered, opset_imports=[helper.make_opsetid("", e.opset)], ir_version=IR_VERSION, producer_name="mmd-tools"
    )
    model.metadata_props.add(key=MARKS, value=_written(e.marks, renamed))
    return model


def _written(marks: list[dict[str, Any]], renamed: simplify.Renamed) -> str:
    """Return the marks as JSON, each tensor under the name that it has in the end."""
    final = [
        {name: value for name, value in mark.items() if name not in ("makes", "tensors")}
        | {role: _last_name(tensor, renamed) for role, tensor in {**mark["tensors"], "makes": mark["makes"]}.items()}
        for mark in marks
    ]
    return json.dumps(final)


def _last_name(tensor: str, renamed: simplify.Renamed) -> str:
    while tensor in renamed:
        tensor = renamed[tensor]
    return tensor


def _outputs(e: Emitter, graph: GraphProto, parameters: Sequence[str], moments: Sequence[str]) -> list[ValueInfoProto]:
    """The losses of the training graph, each once, then what becomes of every parameter."""
    losses = {v.name: v for v in graph.output if not v.name.endswith("_grad.accumulation.out")}
    changed = [
        helper.make_tensor_value_info(f"{parameter}{end}", TensorProto.FLOAT, e.shape(parameter))
        for parameter in parameters
        for end in (".grad", ".next", *(f"{moment}.next" for moment in moments))
    ]
    return [*losses.values(), *changed]


def refuse_unknown_operators(model: ModelProto) -> None:
    """Raise `ArtifactRefused` naming the first node whose operator is not plain ONNX at the model's opset."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, max_inclusive_version=opset):
            continue
        domain = f"{node.domain}." if node.domain else ""
        raise ArtifactRefused(
            f"No lowering rule for {domain}{node.op_type} (node {node.name or '?'} making {node.output[0]}); "
            "replace that layer, or train with the ort_training engine only."
        )
