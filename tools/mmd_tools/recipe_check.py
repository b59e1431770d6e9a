"""Which recipes do the types allow that no artifact set can hold? Reads `recipe.toml`, and refuses by the key."""

from pathlib import Path

import msgspec

from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import UsageError
from mmd.strict_toml import read_toml, refuse_numbers
from mmd_tools.nearest import nearest
from mmd_tools.recipe import InputRecipe, Recipe


def load_recipe(path: Path) -> Recipe:
    """Read `path`. Raises `UsageError` naming the file and the key."""
    recipe = read_toml(path, Recipe, what="recipe")
    try:
        check_recipe(recipe)
    except UsageError as error:
        raise UsageError(f"The recipe {path} does not fit: {error}") from error
    return msgspec.structs.replace(recipe, anchor=str((path.parent / recipe.anchor).resolve()))


def check_recipe(recipe: Recipe) -> None:
    """Refuse what the types allow but no artifact set can hold. Raises `UsageError`."""
    refuse_numbers(recipe)
    if len(recipe.classes) < 2:
        raise UsageError("`classes` needs at least two names.")
    twice = sorted({name for name in recipe.classes if recipe.classes.count(name) > 1})
    if twice:
        raise UsageError(f"`classes` names {twice[0]!r} twice; give every class one name.")
    _check_input(recipe.input)
    _check_optimizer(recipe.optimizer)
    _check_augmentation(recipe)
    _check_loss(recipe)


def _check_loss(recipe: Recipe) -> None:
    if recipe.pairs == "auto" and recipe.probe:
        raise UsageError('`pairs = "auto"` finds the pairs, and [[probe]] names them; remove one of the two.')
    if recipe.pairs == "named" and recipe.auto is not None:
        raise UsageError('[auto] is for `pairs = "auto"`, which is not there; add it, or remove [auto].')
    auto = recipe.auto
    if auto and auto.width and auto.loss in ("attention", "similarity"):
        raise UsageError(f"`auto.width` is of no use: the loss `{auto.loss}` compares any widths; remove it.")
    if auto:
        _check_similarity("auto.loss", auto.loss, recipe.training.batch_size)
    loss = recipe.loss
    if loss.soft != "dkd" and (loss.tckd_weight, loss.nckd_weight) != (1.0, 8.0):
        raise UsageError(f'`loss.tckd_weight` and `loss.nckd_weight` are for `soft = "dkd"`, not "{loss.soft}".')
    for index, probe in enumerate(recipe.probe):
        if probe.schedule:
            _check_points(f"probe[{index}].schedule", probe.schedule)
        if probe.width and probe.loss in ("attention", "similarity"):
            raise UsageError(
                f"`probe[{index}].width` is of no use: the loss `{probe.loss}` compares any widths; remove it."
            )
        _check_similarity(f"probe[{index}].loss", probe.loss, recipe.training.batch_size)
    known = loss.all_schedules
    for name in (loss.default_schedule, loss.labelled_schedule or loss.default_schedule):
        if name not in known:
            raise UsageError(f"there is no schedule `{name}`; {nearest(name, known)}")
    for name, schedule in recipe.loss.schedules.items():
        for term in ("alpha", "beta", "gamma"):
            _check_points(f"loss.schedules.{name}.{term}", getattr(schedule, term))


def _check_similarity(key: str, loss: str, batch_size: int) -> None:
    if loss == "similarity" and batch_size == 1:
        raise UsageError(f"`{key}` compares the samples of a batch; a batch_size of 1 has one only.")


def _check_input(spec: InputRecipe) -> None:
    if (spec.kind == "audio") != (spec.audio is not None):
        raise UsageError('`[input.audio]` and `kind = "audio"` go together; give both or neither.')
    if spec.rate_hz and spec.kind != "tensor":
        raise UsageError('`input.rate_hz` is for `kind = "tensor"`; audio has `input.audio.rate_hz`.')
    if spec.audio is None:
        return
    audio = spec.audio
    if not 1 <= audio.hop <= audio.window <= audio.length:
        raise UsageError("`input.audio` needs hop_ms <= window_ms <= seconds, and a hop of one sample at least.")
    if not audio.low_hz < audio.high_hz <= audio.rate_hz / 2:
        raise UsageError(f"`input.audio` needs low_hz < high_hz <= {audio.rate_hz / 2:g}, half of rate_hz.")


def _check_optimizer(spec: OptimizerSpec) -> None:
    for key, limit in (("beta1", 1.0), ("beta2", 1.0), ("momentum", 1.0)):
        if not 0 <= getattr(spec, key) < limit:
            raise UsageError(f"`optimizer.{key}` is {getattr(spec, key)}; it must be from 0 to below 1.")
    for key in ("weight_decay", "clip_norm"):
        if getattr(spec, key) < 0:
            raise UsageError(f"`optimizer.{key}` is {getattr(spec, key)}; it must be 0 or more.")
    if spec.epsilon <= 0:
        raise UsageError(f"`optimizer.epsilon` is {spec.epsilon}; it must be above 0: it keeps the divisor from 0.")
    if spec.kind == "adamw" and (spec.momentum or spec.nesterov):
        raise UsageError('`optimizer.momentum` and `optimizer.nesterov` are for `kind = "sgd"`; AdamW has beta1.')
    if spec.nesterov and not spec.momentum:
        raise UsageError("`optimizer.nesterov` needs an `optimizer.momentum` above 0.")


def _check_augmentation(recipe: Recipe) -> None:
    misfit = recipe.augmentation and recipe.augmentation.misfit(recipe.input.kind)
    if misfit:
        raise UsageError(f"`augmentation.{misfit}` does not vary an input of kind {recipe.input.kind}.")
    if recipe.training.views > 1 and recipe.augmentation is None:
        raise UsageError("`training.views` is above 1, and no [augmentation] says how a view is made.")


def _check_points(key: str, points: tuple[tuple[float, float], ...]) -> None:
    progress = [at for at, _ in points]
    if not points or progress != sorted(progress) or progress[0] < 0 or progress[-1] > 1:
        raise UsageError(f"`{key}` needs points [progress, coefficient] with progress rising from 0 to 1.")
    if any(coefficient < 0 for _, coefficient in points):
        raise UsageError(f"`{key}` has a negative coefficient; the smallest is 0.")
