"""`mmd-tools export`: one plain `mentee.onnx` out of an artifact set, a checkpoint or a board's state folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmd.artifact.card import VerifiedModel
    from mmd.artifact.load import ArtifactSet

    Parameters = Mapping[str, NDArray[np.float32]]

CALIBRATION_SAMPLES = 256


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the float network on the half of the anchor set that judges."""

    file: str
    precision: str
    bytes: int
    sha256: str
    generation: int | None
    """None for the parameters of a checkpoint."""
    anchor_samples: int
    anchor_right: int
    anchor_right_fp32: int
    remembers: int
    """How many of the owner's samples vote beside the network: their features are in the file."""


def export(artifact_set: ArtifactSet, parameters: Parameters, *, calibration: Path | None, int8: bool) -> bytes:
    """Return the Mentee with `parameters` as ONNX; int8 is calibrated on the anchor set and the samples of a file."""
    from mmd.artifact.export import export_model
    from mmd.artifact.int8 import quantise

    model = export_model(artifact_set, parameters)
    return quantise(model, _calibration(artifact_set, calibration)) if int8 else model


def export_served(artifact_set: ArtifactSet, served: VerifiedModel, *, calibration: Path | None, int8: bool) -> bytes:
    """Return what serves on a board, its memory included; without one where only its int8 form is there and fp32 asked.

    A memory stays in float when the network is made int8 here.
    """
    from mmd.artifact.card import PARAMETERS_NAME
    from mmd.artifact.int8 import quantise

    if served.card.precision == ("int8" if int8 else "fp32"):
        return served.model
    if int8:
        return quantise(served.model, _calibration(artifact_set, calibration))
    parameters = read_parameters(served.folder / PARAMETERS_NAME, artifact_set)
    return export(artifact_set, parameters, calibration=None, int8=False)


def _calibration(artifact_set: ArtifactSet, samples: Path | None) -> NDArray[np.float32]:
    import numpy as np

    lots = [artifact_set.replay_anchor()[0]]
    if samples is not None:
        lots.append(_read_samples(samples, lots[0]))
    chosen = [lot[:: -(-len(lot) // CALIBRATION_SAMPLES)] for lot in lots]
    return _values(artifact_set, np.concatenate(chosen))


def _read_samples(path: Path, like: NDArray[np.generic]) -> NDArray[np.generic]:
    from mmd.errors import InputRefused
    from mmd_tools.archive import read_archive

    arrays = read_archive(path, lambda reason: InputRefused(f"Cannot read the samples {path}: {reason}."))
    if "inputs" not in arrays:
        raise InputRefused(f"{path} has no array `inputs`; it needs samples as they are stored.")
    inputs: NDArray[np.generic] = arrays["inputs"]
    if inputs.shape[1:] != like.shape[1:] or not len(inputs):
        raise InputRefused(f"{path} holds inputs {list(inputs.shape)}; the set takes [n, *{list(like.shape[1:])}].")
    return inputs.astype(like.dtype)


def _values(artifact_set: ArtifactSet, stored: NDArray[np.generic]) -> NDArray[np.float32]:
    from mmd.artifact.load import normalise
    from mmd.artifact.preprocess import Preprocessing

    return normalise(Preprocessing.of(artifact_set)(stored), artifact_set.manifest.input)


def _anchor_right(artifact_set: ArtifactSet, model: bytes) -> tuple[int, int]:
    """Return how many of the judging half of the anchor set are named rightly, and how many there are."""
    from mmd.artifact.session import open_session

    inputs, labels = artifact_set.gate_anchor()
    session, right = open_session(model), 0
    for start in range(0, len(inputs), 64):
        values = _values(artifact_set, inputs[start : start + 64])
        (logits,) = session.run([artifact_set.manifest.logits], {artifact_set.manifest.input.name: values})
        named = logits[:, : len(artifact_set.manifest.classes)].argmax(axis=1)
        right += int((named == labels[start : start + 64]).sum())
    return right, len(inputs)


def read_parameters(path: Path, artifact_set: ArtifactSet) -> Parameters:
    """Read a round's checkpoint or a `parameters.safetensors`. Raises `ArtifactRefused` where it is not of this set."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from mmd.errors import ArtifactRefused

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactRefused(f"{path} cannot be read as a checkpoint: {error}.") from error
    if any(name.startswith("parameter/") for name in tensors):
        from mmd.training.checkpoint import load_checkpoint

        tensors = dict(load_checkpoint(path).parameters)
    for parameter in artifact_set.manifest.parameters:
        held = tensors.get(parameter.name)
        if parameter.role == "mentee" and (held is None or held.shape != parameter.shape):
            raise ArtifactRefused(
                f"{path} does not hold `{parameter.name}` {list(parameter.shape)} of the set "
                f"{artifact_set.manifest.name}; name a checkpoint that was made with this set."
            )
    return tensors


def _from_state(state: Path, generation: int | None) -> tuple[ArtifactSet, VerifiedModel]:
    """Return the set of a board and one of its generations, the serving one where none is named."""
    from mmd.artifact.card import generation_folder, generations, linked_generation, read_model
    from mmd.artifact.load import open_set
    from mmd.errors import UsageError
    from mmd.layout import StateDir

    layout = StateDir(state)
    artifact_set = open_set(layout.artifact_set)
    known = generations(layout.models)
    number = linked_generation(layout.models) if generation is None else generation
    if number is None or number not in known:
        raise UsageError(f"{state} has no generation {number}; it has {', '.join(map(str, known)) or 'none'}.")
    return artifact_set, read_model(generation_folder(layout.models, number))


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("export", short_help="Write the Mentee as one ONNX file, fp32 or int8.")
@click.argument("artifact_set", metavar="[SET]", type=FOLDER, required=False)
@click.option(
    "--checkpoint", type=FILE, help="With these parameters (a round's checkpoint, or parameters.safetensors)."
)
@click.option("--state-dir", type=FOLDER, help="Set and parameters of this board instead of SET.")
@click.option("--generation", type=click.IntRange(min=0), help="Of the board; the serving one otherwise.")
@click.option("--int8", is_flag=True, help="Quantise: weights and activations in 8 bits.")
@click.option("--samples", type=FILE, help="More samples to calibrate int8 on (.npz with `inputs`, as stored).")
@click.option("--out", type=FILE, required=True, help="The network (ONNX).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export_command(
    artifact_set: Path | None,
    checkpoint: Path | None,
    state_dir: Path | None,
    generation: int | None,
    int8: bool,
    samples: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write the Mentee as one ONNX file that any runtime loads, with shipped or trained weights, fp32 or int8."""
    from mmd.artifact.export import holds_memory
    from mmd.artifact.load import open_set
    from mmd.durable import write_bytes
    from mmd_tools.destination import destination

    _check_options(artifact_set, checkpoint, state_dir, generation, samples, int8=int8)
    place = destination(out)
    if state_dir is not None:
        opened, served = _from_state(state_dir, generation)
        number: int | None = served.card.generation
        model, in_fp32 = (export_served(opened, served, calibration=samples, int8=wanted) for wanted in (int8, False))
    else:
        assert artifact_set is not None, "one of the two was asked for"
        opened, number = open_set(artifact_set), 0 if checkpoint is None else None
        parameters = read_parameters(checkpoint or opened.path(opened.manifest.graphs.parameters), opened)
        model, in_fp32 = (export(opened, parameters, calibration=samples, int8=wanted) for wanted in (int8, False))
    right, total = _anchor_right(opened, model)
    write_bytes(place, model)
    exported = Exported(
        file=str(out),
        precision="int8" if int8 else "fp32",
        bytes=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        generation=number,
        anchor_samples=total,
        anchor_right=right,
        anchor_right_fp32=_anchor_right(opened, in_fp32)[0] if int8 else right,
        remembers=served.card.remembers if state_dir is not None and holds_memory(model) else 0,
    )
    _say(exported, as_json=as_json)


def _check_options(
    artifact_set: Path | None,
    checkpoint: Path | None,
    state_dir: Path | None,
    generation: int | None,
    samples: Path | None,
    *,
    int8: bool,
) -> None:
    from mmd.errors import UsageError

    if (artifact_set is None) == (state_dir is None):
        raise UsageError("Name an artifact set, or a board by --state-dir; one of the two.")
    if checkpoint is not None and state_dir is not None:
        raise UsageError("A --checkpoint goes with an artifact set; of a board name a --generation.")
    if generation is not None and state_dir is None:
        raise UsageError("--generation is of a board; name its --state-dir.")
    if samples is not None and not int8:
        raise UsageError("--samples calibrate an --int8 network; fp32 needs none.")


def _say(exported: Exported, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(exported)))
        return
    click.echo(f"Wrote {exported.file}: {exported.precision}, {exported.bytes:,} bytes.")
    if exported.anchor_samples:
        fp32 = f" (fp32: {exported.anchor_right_fp32})" if exported.precision == "int8" else ""
        click.echo(
            f"Anchor set, the half that judges: {exported.anchor_right} of {exported.anchor_samples} right{fp32}."
        )
    if exported.remembers:
        click.echo(f"It remembers {exported.remembers} of the owner's samples: their features are in the file.")
