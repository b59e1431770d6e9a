"""Which operators does a network hold, which of them carry a gradient, and what to do about the others?"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from mmd_tools.fuse import edit
from mmd_tools.fuse.operators import CONDITIONS, CONTROL_FLOW, FROZEN_ONLY, REWRITINGS, SHAPE_WORK, TRAINABLE

_SHOWN = 5


@dataclass(frozen=True)
class OperatorUse:
    """One operator of the file, before anything is folded."""

    operator: str
    count: int
    gradient: str
    """`yes`, `rewritten: FORMULA`, `none needed`, `no: only in a Mentor`, `no: not supported`."""
    nodes: tuple[str, ...]
    """Of what has no gradient, by name."""
    makes: tuple[str, ...] = ()
    """Of control flow: the tensors that the rest of the network reads."""


@dataclass(frozen=True)
class BatchNorms:
    """What becomes of BatchNormalization; its statistics are never trained."""

    folded: int
    """Into the weights before it."""
    product_and_sum: int
    """Where no weights are before it: trained as a scale and a shift."""


def operator_uses(model: onnx.ModelProto) -> tuple[OperatorUse, ...]:
    """Return every operator of `model`, those without a gradient first."""
    if model.functions:
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        is_plain = node.domain in ("", "ai.onnx")
        nodes.setdefault(node.op_type if is_plain else f"{node.domain}.{node.op_type}", []).append(node)
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    uses = [_use(name, found, read) for name, found in sorted(nodes.items())]
    return tuple(sorted(uses, key=lambda use: not use.gradient.startswith("no:")))


def _use(name: str, nodes: list[onnx.NodeProto], read: set[str]) -> OperatorUse:
    gradient = _gradient(name)
    named = tuple(node.name or node.output[0] for node in nodes) if gradient.startswith("no:") else ()
    made = [output for node in nodes for output in node.output if output in read] if name in CONTROL_FLOW else []
    return OperatorUse(name, len(nodes), gradient, named, tuple(made))


def _gradient(name: str) -> str:
    if name in REWRITINGS:
        return f"rewritten: {REWRITINGS[name]}"
    if name in TRAINABLE:
        return "yes"
    if name in SHAPE_WORK | CONDITIONS:
        return "none needed"
    return "no: only in a Mentor" if name in FROZEN_ONLY else "no: not supported"


def batch_norms(model: onnx.ModelProto, prepared: onnx.ModelProto | None) -> BatchNorms:
    outputs = [node.output[0] for node in model.graph.node if node.op_type == "BatchNormalization"]
    made = {name for node in prepared.graph.node for name in node.output} if prepared is not None else set()
    apart = sum(f"{name}.scaled" in made for name in outputs)
    return BatchNorms(len(outputs) - apart, apart)


def frozen_tensors(prepared: onnx.ModelProto, weights: tuple[str, ...]) -> dict[str, int]:
    """Return the constants of more than one number that training leaves as they are, with their sizes."""
    frozen = {}
    for tensor in prepared.graph.initializer:
        size = int(edit.array(tensor).size)
        if tensor.data_type == onnx.TensorProto.FLOAT and size > 1 and tensor.name not in weights:
            frozen[tensor.name] = size
    return frozen


def ways_out(uses: tuple[OperatorUse, ...]) -> Iterator[str]:
    """Yield one sentence for each operator that stands in the way, with its nodes and what would help."""
    for use in uses:
        if not use.gradient.startswith("no:"):
            continue
        shown = ", ".join(use.nodes[:_SHOWN]) + (f" and {use.count - _SHOWN} more" if use.count > _SHOWN else "")
        if use.gradient == "no: only in a Mentor":
            yield f"{use.operator} ({shown}) has no gradient: use the network as Mentor, or export without it."
        elif use.operator in CONTROL_FLOW:
            yield (
                f"{use.operator} ({shown}) is control flow: export with fixed sizes, which unrolls it, or let the "
                f"network begin behind it (onnx.utils.extract_model, from {', '.join(use.makes[:_SHOWN])} on, and "
                "onnx.tools.update_model_dims for the sizes there)."
            )
        elif "." in use.operator:
            yield f"{use.operator} ({shown}) is not plain ONNX: export again without fused or custom operators."
        else:
            yield f"{use.operator} ({shown}) is not supported: replace it in the model before exporting."
