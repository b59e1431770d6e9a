"""What is in this network, what would `fuse` refuse, what is trained and what is frozen, and what would a step cost?"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd_tools.fuse.command import show_ranking
from mmd_tools.inspect_operators import (
    BatchNorms,
    OperatorUse,
    batch_norms,
    frozen_tensors,
    operator_uses,
    ways_out,
)
from mmd_tools.tables import print_table

if TYPE_CHECKING:
    from mmd_tools.fuse.network import Network
    from mmd_tools.fuse.pairing import Likeness
    from mmd_tools.recipe import Recipe
    from mmd_tools.weigh import Weighed


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
    operators: tuple[OperatorUse, ...]
    ways_out: tuple[str, ...]
    """A sentence for each operator that cannot be trained."""
    batch_normalisation: BatchNorms
    frozen: dict[str, int]
    """Constants that training leaves as they are, with their sizes; for a Mentee."""


def inspect(path: Path) -> Inspection:
    """Look at the network in `path`. Raises `ArtifactRefused` only when it cannot be read at all."""
    from mmd_tools.fuse.network import load_model

    model = load_model(path)
    uses = operator_uses(model)
    mentee, refused_as_mentee = _try(path, "mentee")
    mentor, refused_as_mentor = _try(path, "mentor")
    network = mentee or mentor
    layers = _layers(network) if network else ()
    return Inspection(
        file=path.name,
        input=network.input if network else None,
        input_shape=network.input_shape if network else None,
        logits=network.logits if network else None,
        classes=network.classes if network else None,
        parameters=sum(layer.parameters for layer in layers),
        layers=layers,
        also_known_as=dict(network.folded) if network else {},
        refused_as_mentor=refused_as_mentor,
        refused_as_mentee=refused_as_mentee,
        operators=uses,
        ways_out=tuple(ways_out(uses)),
        batch_normalisation=batch_norms(model, network.model if network else None),
        frozen=frozen_tensors(mentee.model, mentee.weights) if mentee else {},
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


FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("inspect")
@click.argument("network", type=FILE)
@click.option("--step", is_flag=True, help="Measure a training step of it as Mentee, in both engines.")
@click.option("--mentor", type=FILE, help="The Mentor that would teach it: for --step, or to see which layers pair.")
@click.option("--recipe", "recipe_file", type=FILE, help="Its probes, anchor set and losses, likewise.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="With --step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect_command(
    network: Path, step: bool, mentor: Path | None, recipe_file: Path | None, batch: int, as_json: bool
) -> None:
    """Look at an ONNX network before a set is built of it.

    Tensors to probe, shapes, parameters; operators without a gradient, by node, and a way out; what is frozen and what
    becomes of BatchNormalization. With --step: memory and time of a step, cache bytes a sample, size of the set. With
    a --mentor and a --recipe that says `pairs = "auto"`: which layers are alike, and which would be paired.
    """
    from mmd.errors import UsageError

    asked = _recipe(recipe_file)
    pairs_are_found = mentor is not None and asked is not None and asked.pairs == "auto"
    if (mentor or asked) and not (step or pairs_are_found):
        raise UsageError(
            '--mentor and --recipe are for --step, or, both, for `pairs = "auto"` in the recipe; say --step.'
        )
    found = inspect(network)
    if (step or pairs_are_found) and found.refused_as_mentee:
        raise UsageError(f"No step can be measured, no layer compared. {found.refused_as_mentee}")
    weighed, ranking = _with_mentor(network, mentor, asked, batch, step=step)
    if as_json:
        told = {**asdict(found), "step": None, "pairs": [asdict(pair) for pair in ranking]}
        if weighed is not None:
            told["step"] = {key: value for key, value in asdict(weighed).items() if key != "ranking"}
        click.echo(json.dumps(told))
        return
    _show(found)
    if ranking:
        show_ranking(ranking)
    if weighed is not None:
        _show_step(weighed)


def _recipe(path: Path | None) -> "Recipe | None":
    from mmd_tools.recipe_check import load_recipe

    return load_recipe(path) if path else None


def _with_mentor(
    network: Path, mentor: Path | None, recipe: "Recipe | None", batch: int, *, step: bool
) -> "tuple[Weighed | None, tuple[Likeness, ...]]":
    """Return what a step costs where that is asked for, and how alike the layers are where the recipe asks that."""
    from rich.console import Console

    from mmd_tools.fuse import find_pairs
    from mmd_tools.weigh import weigh

    with Console(stderr=True).status("") as status:
        if step:
            weighed = weigh(network, mentor, recipe, batch=batch, report=status.update)
            return weighed, weighed.ranking
        if mentor is not None and recipe is not None:
            status.update("comparing the layers")
            return None, find_pairs(mentor, network, recipe)
        return None, ()


def _show(found: Inspection) -> None:
    for role, refused in (("mentor", found.refused_as_mentor), ("mentee", found.refused_as_mentee)):
        click.echo(f"as {role}: {refused or 'fits'}")
    for sentence in found.ways_out:
        click.echo(f"  {sentence}")
    if found.input is not None:
        _show_layers(found)
    uses = [(use.operator, str(use.count), use.gradient) for use in found.operators]
    print_table(("operator", "nodes", "gradient"), uses, right=("nodes",))
    norms = found.batch_normalisation
    if norms.folded or norms.product_and_sum:
        click.echo(
            f"BatchNormalization: {norms.folded} folded into the weights before them, {norms.product_and_sum} made "
            "a product and a sum; their statistics stay as they are."
        )
    for name, size in found.frozen.items():
        click.echo(f"frozen: {name} ({size:,} numbers)")


def _show_layers(found: Inspection) -> None:
    click.echo(f"input {found.input} {list(found.input_shape or ())}, logits {found.logits} ({found.classes} classes)")
    rows = []
    for layer in found.layers:
        shape = "x".join(map(str, layer.shape)) if layer.shape is not None else "-"
        rows.append((layer.operator, layer.tensor, shape, f"{layer.parameters:,}" if layer.parameters else ""))
    rows.append(("", "", "", f"{found.parameters:,}"))
    print_table(("operator", "tensor", "shape", "parameters"), rows, right=("parameters",))
    for old, new in found.also_known_as.items():
        click.echo(f"{old} is now {new}")


def _show_step(weighed: "Weighed") -> None:
    rows = [
        (name, f"{size / 2**20:.1f}", f"{weighed.step_ms[name]:.1f}" if name in weighed.step_ms else "")
        for name, size in sorted(weighed.step_bytes.items())
    ]
    click.echo(f"A step of {weighed.batch} samples, one thread of this machine:")
    print_table(("engine", "MiB, estimated", "ms"), rows, right=("MiB, estimated", "ms"))
    click.echo(f"a process that takes such steps: {weighed.process.bytes / 2**20:.0f} MiB, measured")
    click.echo(f"cache: {weighed.cache_bytes_per_sample:,} bytes a sample; set: {weighed.set_bytes / 2**20:.1f} MiB")
