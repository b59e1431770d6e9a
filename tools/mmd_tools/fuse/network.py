"""What must a network look like before it can be fused? `read_network` brings it there, or refuses it by name.

Ensured: opset 17, weights inline, one float input [N, ...], one output of logits [N, classes], every other shape
static, BatchNormalization folded, Identity gone, Dropout gone unless it is to be trained, only operators of the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError

from mmd.artifact.manifest import DropoutSpec
from mmd.errors import ArtifactRefused
from mmd_tools.fuse import edit, rewrite, shapes
from mmd_tools.fuse.decompose import decompose
from mmd_tools.fuse.edit import BATCH
from mmd_tools.fuse.normalisation import fold_batch_normalization
from mmd_tools.fuse.operators import SUPPORTED, WEIGHT_SLOTS
from mmd_tools.fuse.opset import convert_opset
from mmd_tools.fuse.settle import repeat_by_adding
from mmd_tools.fuse.untie import untie

OPSET = 17
IR_VERSION = 9

Role = Literal["mentor", "mentee"]


@dataclass(frozen=True)
class Network:
    """A classifier that can be fused."""

    model: onnx.ModelProto
    role: Role
    source: str
    input: str
    input_shape: tuple[int, ...]
    """Without the batch."""
    logits: str
    classes: int
    shapes: dict[str, tuple[int, ...]]
    """Of every float tensor [N, ...], without the batch, in the order of computation: what a probe may name."""
    weights: tuple[str, ...]
    """The initializers that training may move."""
    folded: dict[str, str]
    """Tensors of the file that are gone, and the tensor that stands for each."""
    dropouts: tuple[DropoutSpec, ...] = ()
    """Of the Dropout nodes that were kept, in their order."""


def read_network(path: Path, role: Role, *, keep_dropout: bool = False) -> Network:
    """Read and prepare the network in `path`. Raises `ArtifactRefused`: one line, with the operator or tensor."""
    model = load_model(path)
    try:
        return prepare(model, role, path.name, keep_dropout=keep_dropout)
    except rewrite.Unfit as error:
        raise ArtifactRefused(f"The {role} {path.name} cannot be fused: {error}") from error


def load_model(path: Path) -> onnx.ModelProto:
    """Read `path` with its external weights. Raises `ArtifactRefused`."""
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else str(error)
        if not path.exists():
            raise ArtifactRefused(f"There is no network {path}; name an ONNX file.") from error
        raise ArtifactRefused(
            f"The network {path} misses its external weights ({missing}); put them beside it."
        ) from error
    except onnx.checker.ValidationError as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise ArtifactRefused(
            f"The network {path} misses its external weights or names them badly: {first}; put them beside it."
        ) from error
    except (OSError, DecodeError, ValueError) as error:
        raise ArtifactRefused(f"{path} is not an ONNX network: {str(error).splitlines()[0]}.") from error
    if not model.graph.node:
        size = path.stat().st_size
        raise ArtifactRefused(f"{path} holds no network ({size} bytes); copy it again, or export it again.")
    return model


def prepare(model: onnx.ModelProto, role: Role, source: str, *, keep_dropout: bool = False) -> Network:
    """Bring `model`, which this changes, to the form of `Network`. Raises `rewrite.Unfit`."""
    if model.functions:
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    rewrite.drop_initializer_inputs(model)
    rewrite.constants_to_initializers(model)
    _refuse_operators(model, role)
    _check_one_input_and_output(model)
    model = convert_opset(model, OPSET, IR_VERSION)
    before = edit.all_tensors(model)
    rewrite.constants_to_initializers(model)
    rewrite.cut_trailing_softmax(model)
    folded = rewrite.drop_identities(model, keep_dropout=keep_dropout)
    shapes.make_batch_symbolic(model)
    model = shapes.settle_shapes(model)
    folded |= fold_batch_normalization(model)
    decompose(model, is_trained=role == "mentee")
    edit.remove_dead(model)
    repeat_by_adding(model)
    model = rewrite.flatten_logits(shapes.infer(model))
    if role == "mentee":
        untie(model)
    rewrite.name_nodes(model)
    model = shapes.infer(model)
    shapes.refuse_unknown_shapes(model)
    _refuse_operators(model, role)
    return _describe(model, role, source, {old: new for old, new in folded.items() if old in before})


def _refuse_operators(model: onnx.ModelProto, role: Role) -> None:
    refused = [
        f"{node.domain}.{edit.label(node)}" if node.domain not in ("", "ai.onnx") else edit.label(node)
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED[role]
    ]
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise rewrite.Unfit(
            f"unsupported operator {', '.join(refused[:3])}{more}; "
            "`mmd-tools inspect` names them all, each with a way out."
        )


def _check_one_input_and_output(model: onnx.ModelProto) -> None:
    inputs, outputs = model.graph.input, model.graph.output
    if len(inputs) != 1:
        raise rewrite.Unfit(
            f"it has {len(inputs)} inputs ({', '.join(v.name for v in inputs)}); exactly one fits: "
            "keep that of the samples, and give the others their values as initializers."
        )
    if len(outputs) != 1:
        raise rewrite.Unfit(
            f"it has {len(outputs)} outputs ({', '.join(v.name for v in outputs)}); keep only the one with the logits."
        )
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise rewrite.Unfit(f"its input {inputs[0].name} is not float32; export it in float32.")


def _describe(model: onnx.ModelProto, role: Role, source: str, folded: dict[str, str]) -> Network:
    graph = model.graph
    known = known_shapes(model)
    logits = graph.output[0].name
    if len(known.get(logits, ())) != 1:
        raise rewrite.Unfit(f"its output {logits} is {known.get(logits)} a sample; logits are one row of classes.")
    return Network(
        model=model,
        role=role,
        source=source,
        input=graph.input[0].name,
        input_shape=known[graph.input[0].name],
        logits=logits,
        classes=known[logits][0],
        shapes={name: shape for name, shape in known.items() if name != graph.input[0].name},
        weights=_weights(model),
        folded=folded,
        dropouts=tuple(_dropouts(model, known)),
    )


def _dropouts(model: onnx.ModelProto, known: dict[str, tuple[int, ...]]) -> Iterator[DropoutSpec]:
    nodes = [node for node in model.graph.node if node.op_type == "Dropout"]
    for index, node in enumerate(nodes):
        ratio = rewrite.dropout_ratio(model, node)
        yield DropoutSpec(name=f"dropout.{index}", shape=known[node.output[0]], ratio=ratio)


def renamed(network: Network, new_names: dict[str, str]) -> Network:
    """Return the network with some tensors renamed."""
    if not new_names:
        return network
    edit.rename(network.model, new_names)
    gone = {old: new for old, new in new_names.items() if old in network.shapes}
    described = _describe(network.model, network.role, network.source, {})
    folded = {old: new_names.get(new, new) for old, new in network.folded.items()}
    return replace(described, folded={**folded, **gone})


def known_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes without the batch of the float tensors [N, ...]."""
    graph = model.graph
    values = {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}
    order = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    known = {}
    for name in order:
        value = values.get(name)
        if value is None or value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        dims = edit.dimensions(value)
        if dims and dims[0] == BATCH and all(isinstance(dim, int) for dim in dims[1:]):
            known[name] = tuple(dim for dim in dims[1:] if isinstance(dim, int))
    return known


def _weights(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the trainable initializers: those in a weight slot, except what only scales the raw input."""
    tensors = edit.constants(model)
    after_weights: set[str] = set()
    found: dict[str, None] = {}
    for node in model.graph.node:
        is_elementwise = node.op_type in ("Add", "Sub", "Mul")
        for slot in WEIGHT_SLOTS.get(node.op_type, ()):
            tensor = tensors.get(node.input[slot]) if slot < len(node.input) else None
            if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            if is_elementwise and (len(edit.array(tensor).ravel()) < 2 or not after_weights.intersection(node.input)):
                continue
            found[tensor.name] = None
        if after_weights.intersection(node.input) or set(found).intersection(node.input):
            after_weights.update(node.output)
    return tuple(found)
