"""In which order is an artifact set made? Read both networks, build both graphs, write a folder, rename it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from mmd.durable import install_folder, make_folder, replace_folder
from mmd.errors import ArtifactRefused, UsageError
from mmd_tools.audio.features import feature_shape, recipe_preprocessing
from mmd_tools.fuse import edit
from mmd_tools.fuse.anchor import read_anchor
from mmd_tools.fuse.calibration import Moments, measure
from mmd_tools.fuse.gradients import training_files
from mmd_tools.fuse.graphs import forward_graph, mentor_model, reserve_names
from mmd_tools.fuse.losses import Terms
from mmd_tools.fuse.network import Network, read_network, renamed
from mmd_tools.fuse.pairing import Likeness, chosen_probes, rank
from mmd_tools.fuse.probes import Probe, resolve_probe
from mmd_tools.fuse.projectors import fit_projectors, start_at
from mmd_tools.fuse.rewrite import Unfit
from mmd_tools.fuse.widths import settle_widths
from mmd_tools.fuse.write import SetContent, input_spec, step_memory, write_set
from mmd_tools.recipe import AutoRecipe, ProbeRecipe, Recipe
from mmd_tools.recipe_check import check_recipe

Report = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """The two networks and how they are compared."""

    mentee: Network
    mentor: Network | None
    probes: tuple[Probe, ...]


def fuse(
    mentor: Path | None,
    mentee: Path,
    recipe: Recipe,
    out: Path,
    *,
    force: bool = False,
    report: Report = lambda stage: None,
) -> tuple[Likeness, ...]:
    """Write the artifact set of `mentor` and `mentee` to the folder `out`, which appears whole or not at all.

    Where `out` is a symbolic link the link stays, and the folder that it points at is written or replaced. Without a
    Mentor the set trains on labels alone. Returns how alike the layers are where the recipe lets the pairs be found;
    nothing where it names them. Raises `UsageError` for a recipe that does not fit the networks, `ArtifactRefused` for
    a network that cannot be fused.
    """
    check_recipe(recipe)
    _refuse_occupied(out, force=force)
    destination = Path(os.path.realpath(out))
    report("reading the networks")
    pair = read_pair(mentor, mentee, recipe)
    anchor, replay = _read_samples(pair, recipe)
    ranking: tuple[Likeness, ...] = ()
    if recipe.pairs == "auto":
        report("comparing the layers")
        pair, ranking = _paired(pair, recipe, replay)
    content = _build(pair, recipe, replay=replay, report=report)
    report("estimating the memory of a step")
    memory = step_memory(content, recipe)
    report("writing the set")
    make_folder(destination.parent)
    prepared = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        write_set(prepared, content, recipe, anchor, memory)
        prepared.chmod(0o755)
        install = replace_folder if destination.exists() else install_folder
        install(prepared, destination)
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    return ranking


def find_pairs(mentor: Path, mentee: Path, recipe: Recipe) -> tuple[Likeness, ...]:
    """Return how alike the layers of both networks are on the anchor set, and which of them `fuse` would pair."""
    check_recipe(recipe)
    pair = read_pair(mentor, mentee, msgspec.structs.replace(recipe, probe=()))
    return _paired(pair, recipe, _read_samples(pair, recipe)[1])[1]


def _paired(pair: Pair, recipe: Recipe, replay: edit.Array) -> tuple[Pair, tuple[Likeness, ...]]:
    assert pair.mentor is not None, "`read_pair` refuses to look for pairs without a mentor"
    asked = recipe.auto or AutoRecipe()
    ranking = rank(pair.mentor, pair.mentee, replay, input_spec(pair.mentee, recipe), asked)
    return Pair(pair.mentee, pair.mentor, _resolved(chosen_probes(ranking, asked), pair.mentor, pair.mentee)), ranking


def _read_samples(pair: Pair, recipe: Recipe) -> tuple[tuple[edit.Array, NDArray[np.int64]], edit.Array]:
    """Return the anchor set as stored, and what training may see of it, preprocessed: the even rows."""
    is_audio = recipe.input.kind == "audio"
    stored_shape = input_spec(pair.mentee, recipe).stored_shape
    anchor = read_anchor(Path(recipe.anchor), stored_shape, len(recipe.classes), is_audio=is_audio)
    return anchor, recipe_preprocessing(recipe.input)(anchor[0][0::2])


def _refuse_occupied(out: Path, *, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the artifact set.")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise UsageError(f"The folder {out} is not empty; name another, or replace it with --force.")


def read_pair(mentor: Path | None, mentee: Path, recipe: Recipe) -> Pair:
    """Read both networks and check them against each other and the recipe."""
    small = read_network(mentee, "mentee", keep_dropout=recipe.dropout == "keep")
    small = renamed(small, reserve_names(small))
    big = read_network(mentor, "mentor") if mentor is not None else None
    _check_classes(small, recipe, spare=recipe.spare_classes)
    _check_normalisation(small, recipe)
    if big is None:
        if recipe.probe or recipe.pairs == "auto":
            raise UsageError("The recipe has probes, but there is no mentor; remove them or name one.")
        return Pair(small, None, ())
    _check_classes(big, recipe)
    if big.input_shape != small.input_shape:
        raise UsageError(
            f"The mentor {big.source} takes {list(big.input_shape)} a sample and the mentee {small.source} "
            f"{list(small.input_shape)}; both must take the same."
        )
    return Pair(small, big, _resolved(recipe.probe, big, small))


def _resolved(asked: Sequence[ProbeRecipe], mentor: Network, mentee: Network) -> tuple[Probe, ...]:
    return tuple(resolve_probe(index, each, mentor, mentee) for index, each in enumerate(asked))


def _check_classes(network: Network, recipe: Recipe, *, spare: int = 0) -> None:
    if network.classes != len(recipe.classes) + spare:
        reserved = f" and reserves {spare} more of the mentee's outputs" if spare else ""
        raise UsageError(
            f"The {network.role} {network.source} tells {network.classes} classes apart; "
            f"the recipe names {len(recipe.classes)}{reserved}."
        )


def _check_normalisation(network: Network, recipe: Recipe) -> None:
    shape = network.input_shape
    if recipe.input.kind == "image" and len(shape) != 3:
        raise UsageError(
            f"The recipe's input kind is image, but the mentee takes {list(shape)}, not [channels, height, width]; "
            'write `kind = "tensor"`.'
        )
    if recipe.input.audio is not None and shape != feature_shape(recipe.input.audio):
        raise UsageError(
            f"The recipe's [input.audio] makes features {list(feature_shape(recipe.input.audio))}, "
            f"and the mentee takes {list(shape)}; change one of them."
        )
    for name, values in (("mean", recipe.input.mean), ("std", recipe.input.std)):
        if len(values) not in (1, shape[0] if shape else 1):
            raise UsageError(f"The recipe's input.{name} has {len(values)} entries; 1 or {shape[0]} fit {list(shape)}.")


def _build(pair: Pair, recipe: Recipe, *, replay: edit.Array, report: Report) -> SetContent:
    """Make every graph of the set. `replay` is what training may see of the anchor set, preprocessed: the even rows."""
    from mmd_tools.lowering import lower

    mentor, mentee, probes, moments = pair.mentor, pair.mentee, pair.probes, dict[int, Moments]()
    if mentor is not None:
        moments = measure(mentor, mentee, probes, replay, input_spec(mentee, recipe))
        probes = settle_widths(probes, moments)
    kinds = _kinds(recipe)
    try:
        forward = {
            is_cached: forward_graph(mentee, mentor, probes, is_cached=is_cached, seed=recipe.seed, kinds=kinds)
            for is_cached in (False, True)
        }
    except Unfit as error:
        raise ArtifactRefused(f"The mentee {mentee.source} cannot be trained: {error}") from error
    if mentor is not None:
        starts = fit_projectors(probes, moments, recipe.seed)
        for graph in forward.values():
            start_at(graph.model, starts)
    report("building the gradients")
    fused = training_files(forward[False], recipe.optimizer)
    cached = training_files(forward[True], recipe.optimizer)
    report("lowering to the stock runtime")
    parameters = forward[False].trainable
    frozen = None
    if mentor is not None:
        frozen = mentor_model(mentor, mentee.input, probes)
    return SetContent(
        mentee=mentee,
        mentor=mentor,
        probes=probes,
        mentor_model=frozen,
        fused=fused,
        training_cached=cached.training,
        portable_fused=lower(fused.training, parameters, recipe.optimizer),
        portable_cached=lower(cached.training, parameters, recipe.optimizer),
        start=_start_values(forward[False].model, parameters),
    )


def _kinds(recipe: Recipe) -> Terms:
    loss = recipe.loss
    return Terms(loss.soft, loss.label_smoothing, loss.tckd_weight, loss.nckd_weight, recipe.spare_classes)


def _start_values(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, edit.Array]:
    tensors = edit.constants(model)
    return {name: edit.array(tensors[name]) for name in names}
