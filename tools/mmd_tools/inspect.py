"""What is in this network: which tensors can be probed, how many parameters, and what would `fuse` refuse?"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mmd_tools.fuse.network import Network


@dataclass(frozen=True)
class Layer:
    """One operator as `fuse` sees it, after folding."""

    operator: str
    tensor: str
    """What a probe would name."""
    shape: tuple[int, ...] | None
    """Without the batch; None for what cannot be probed."""
    parameters: int


@dataclass(frozen=True)
class Inspection:
    """What `mmd-tools inspect` prints."""

    file: str
    input: str | None
    input_shape: tuple[int, ...] | None
    logits: str | None
    classes: int | None
    parameters: int
    layers: tuple[Layer, ...]
    also_known_as: dict[str, str]
    """Tensors of the file that folding removed, and the one that stands for each."""
    refused_as_mentor: str | None
    """Why `fuse` would not take it; None when it would."""
    refused_as_mentee: str | None


def inspect(path: Path) -> Inspection:
    """Look at the network in `path`. Raises `ArtifactRefused` only when it cannot be read at all."""
    from mmd_tools.fuse.network import load_model

    load_model(path)
    mentee, refused_as_mentee = _try(path, "mentee")
    mentor, refused_as_mentor = _try(path, "mentor")
    network = mentee or mentor
    if network is None:
        return Inspection(path.name, None, None, None, None, 0, (), {}, refused_as_mentor, refused_as_mentee)
    layers = _layers(network)
    return Inspection(
        file=path.name,
        input=network.input,
        input_shape=network.input_shape,
        logits=network.logits,
        classes=network.classes,
        parameters=sum(layer.parameters for layer in layers),
        layers=layers,
        also_known_as=dict(network.folded),
        refused_as_mentor=refused_as_mentor,
        refused_as_mentee=refused_as_mentee,
    )


def _try(path: Path, role: str) -> "tuple[Network | None, str | None]":
    from mmd.errors import ArtifactRefused
    from mmd_tools.fuse.network import read_network

    try:
        return read_network(path, "mentor" if role == "mentor" else "mentee"), None
    except ArtifactRefused as error:
        return None, str(error)


def _layers(network: "Network") -> tuple[Layer, ...]:
    from math import prod

    sizes = {tensor.name: prod(tensor.dims) for tensor in network.model.graph.initializer}
    weights = set(network.weights)
    counted: set[str] = set()
    layers = []
    for node in network.model.graph.node:
        own = [name for name in node.input if name in weights and name not in counted]
        counted.update(own)
        layers.append(
            Layer(node.op_type, node.output[0], network.shapes.get(node.output[0]), sum(sizes[name] for name in own))
        )
    return tuple(layers)


@click.command("inspect")
@click.argument("network", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect_command(network: Path, as_json: bool) -> None:
    """List the layers of an ONNX network: tensors to probe, shapes, parameters, refused operators."""
    found = inspect(network)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    for role, refused in (("mentor", found.refused_as_mentor), ("mentee", found.refused_as_mentee)):
        click.echo(f"as {role}: {refused or 'fits'}")
    if found.input is None:
        return
    from rich.console import Console
    from rich.table import Table

    click.echo(f"input {found.input} {list(found.input_shape or ())}, logits {found.logits} ({found.classes} classes)")
    table = Table("operator", "tensor", "shape", "parameters", box=None, pad_edge=False)
    for layer in found.layers:
        shape = "x".join(map(str, layer.shape)) if layer.shape is not None else "-"
        table.add_row(layer.operator, layer.tensor, shape, f"{layer.parameters:,}" if layer.parameters else "")
    table.add_row("", "", "", f"{found.parameters:,}")
    console = Console()
    console.print(table) if console.is_terminal else console.print(table, width=200, highlight=False)
    for old, new in found.also_known_as.items():
        click.echo(f"{old} is now {new}")
