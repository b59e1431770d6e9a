"""Whose Mentor teaches in the bench of mentoring, and what is learned? The digits' or the garments'."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx

from mmd.artifact.load import ArtifactSet
from mmd.errors import InputRefused
from mmd_tools.prepare_digits import read_digits, read_test_digits, split_by_writer
from mmd_tools.prepare_fashion import SPLITS, read_garments, read_test_garments, split_by_place
from mmd_tools.recipe import InputRecipe, Recipe
from mmd_tools.train_data import Part


@dataclass(frozen=True)
class Teacher:
    """A trained Mentor and how it is to be followed."""

    name: str
    sha256: str
    """Of the artifact set, or of the network where there is none."""
    network: Path
    """ONNX with its logits as the one output and its weights inside."""
    classes: tuple[str, ...]
    anchor: Path
    input: InputRecipe
    hints: tuple[tuple[str, float], ...]
    """A tensor of the Mentor and the weight of its hint."""
    temperature: float


def teacher_of_set(artifact_set: ArtifactSet, folder: Path) -> Teacher:
    """Return the Mentor of an artifact set; its network is written into `folder`."""
    manifest = artifact_set.manifest
    network = onnx.load(artifact_set.path(manifest.graphs.mentor))
    kept = [output for output in network.graph.output if output.name == manifest.mentor_logits]
    del network.graph.output[:]
    network.graph.output.extend(kept)
    onnx.save(network, folder / "mentor.onnx")
    spec = manifest.input
    return Teacher(
        name=manifest.name,
        sha256=artifact_set.sha256,
        network=folder / "mentor.onnx",
        classes=manifest.classes,
        anchor=artifact_set.path(manifest.graphs.anchor),
        input=InputRecipe(kind=spec.kind, scale=spec.scale, mean=spec.mean, std=spec.std),
        hints=tuple(
            (pair.mentor, each) for pair, each in zip(manifest.probes, manifest.loss.hint_weights, strict=True)
        ),
        temperature=manifest.loss.temperature,
    )


def teacher_of_recipe(recipe: Recipe, network: Path) -> Teacher:
    """Return the Mentor that `mmd-tools train --net mentor` made. Raises `InputRefused` when it is not there."""
    if not network.exists():
        raise InputRefused(f"There is no Mentor {network}; artifacts/{recipe.name}/README.md has the commands.")
    return Teacher(
        name=recipe.name,
        sha256=hashlib.sha256(network.read_bytes()).hexdigest(),
        network=network,
        classes=recipe.classes,
        anchor=Path(recipe.anchor),
        input=recipe.input,
        hints=tuple((probe.mentor, probe.weight) for probe in recipe.probe),
        temperature=recipe.loss.temperature,
    )


def digits_parts(data: Path) -> tuple[Part, Part]:
    """Return the digits that the shipped Mentor was trained on, and MNIST's test digits."""
    digits = read_digits(data)
    is_train = split_by_writer(digits) == 0
    return Part(digits.inputs[is_train], digits.labels[is_train]), Part(*read_test_digits(data))


def fashion_parts(data: Path) -> tuple[Part, Part]:
    """Return the garments that the recipe's Mentor was trained on, and Fashion-MNIST's test garments."""
    garments = read_garments(data)
    is_train = split_by_place(len(garments.labels)) == SPLITS.index("train")
    return Part(garments.inputs[is_train], garments.labels[is_train]), read_test_garments(data)
