"""What does the maker of an artifact set ask for? The structures behind `recipe.toml`.

An unknown key is an error that names the nearest known one.
"""

import difflib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mmd.artifact.manifest import OptimizerSpec, Point, Schedule
from mmd.augmentation import Augmentation
from mmd.errors import UsageError
from mmd.strict_toml import read_toml
from mmd_tools.nets import NetRecipe
from mmd_tools.presets import PRESETS

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Width = Literal["select", "zero-pad", "project", "pca"]
Scope = Literal["whole", "up-to-probe", "layer"]
HintLoss = Literal["rmse", "mse", "cosine", "attention", "similarity"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class AudioRecipe(_Section, frozen=True):
    """`[input.audio]`: what is stored of a recording, and its log-mel features."""

    rate_hz: Count = 16000
    """Samples a second; recordings of another rate are resampled."""
    seconds: Positive = 1.0
    """What is stored of every recording."""
    window_ms: Positive = 32.0
    """Of one spectrum."""
    hop_ms: Positive = 16.0
    """From one spectrum to the next."""
    mels: Count = 40
    """Filters, and so features, a spectrum."""
    low_hz: NonNegative = 20.0
    """Lower end of the lowest filter."""
    high_hz: Positive = 7600.0
    """Upper end of the highest filter."""
    log_offset: Positive = 1e-6
    """Added to the power in each filter, where 1 is a square wave of full scale, before the logarithm."""

    @property
    def length(self) -> int:
        """Of a stored recording, in samples."""
        return round(self.seconds * self.rate_hz)

    @property
    def window(self) -> int:
        return round(self.window_ms * self.rate_hz / 1000)

    @property
    def hop(self) -> int:
        return round(self.hop_ms * self.rate_hz / 1000)

    @property
    def fft(self) -> int:
        """The next power of two at or above the window."""
        return 1 << (self.window - 1).bit_length()


class InputRecipe(_Section, frozen=True):
    """`[input]`: what a value v becomes, (v * scale - mean) / std; the values of audio are its features."""

    kind: Literal["image", "audio", "tensor"] = "image"
    """What the owner's samples are."""
    scale: Positive = 1.0
    """What a value is multiplied with first; 1/255 for 8-bit images."""
    mean: tuple[float, ...] = (0.0,)
    """Taken away next: one for all, or one a channel."""
    std: tuple[Positive, ...] = (1.0,)
    """Divided by last: one for all, or one a channel."""
    rate_hz: NonNegative = 0.0
    """Of a tensor that is a window of measurements: files that state another rate are refused; 0 asks for none."""
    audio: AudioRecipe | None = None
    """For `kind = "audio"`, and only there."""


class ProbeRecipe(_Section, frozen=True):
    """`[[probe]]`: two tensors to compare; `mmd-tools inspect` lists the names."""

    mentor: str
    """A tensor of the Mentor."""
    mentee: str
    """The tensor of the Mentee that is to follow it."""
    loss: HintLoss = "rmse"
    """How the two are compared."""
    width: Width | None = None
    """How different numbers of channels are brought together; `project` unless something else is said."""
    scope: Scope = "whole"
    """What the hint trains: all that its layer is made from; the same, and nothing above does; its layer alone."""
    weight: NonNegative = 1.0
    """The coefficient of the hint is this, times the schedule's beta."""
    schedule: tuple[Point, ...] = ()
    """Points [progress, factor]: the pair's own schedule, times `weight` and beta; without it the factor is 1."""


class AutoRecipe(_Section, frozen=True):
    """`[auto]`, with `pairs = "auto"`: how many pairs are looked for, by what, and what each of them becomes."""

    count: Count = 1
    """How many pairs, at most."""
    measure: Literal["cka", "cosine"] = "cka"
    """What the layers' activations are ranked by; `mmd-tools pairs` shows both."""
    loss: HintLoss = "rmse"
    """As in `[[probe]]`, for every pair."""
    width: Width | None = None
    """As in `[[probe]]`, for every pair."""
    scope: Scope = "whole"
    """As in `[[probe]]`, for every pair."""
    weight: NonNegative = 1.0
    """These four as in `[[probe]]`."""


class LossRecipe(_Section, frozen=True):
    """`[loss]`: the presets are always there; `[loss.schedules.NAME]` adds one or replaces one."""

    temperature: Positive = 4.0
    """T of the soft targets; of no effect where `soft` is `mse`."""
    soft: Literal["kl", "mse", "dkd"] = "kl"
    """How the Mentee's logits are compared with the Mentor's."""
    label_smoothing: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    """The share of a label that is spread over all `classes`; spare ones get none."""
    tckd_weight: NonNegative = 1.0
    """`dkd` only: of the target class."""
    nckd_weight: NonNegative = 8.0
    """`dkd` only: of the other classes."""
    default_schedule: str = "obedient"
    """What a round follows unless the owner says otherwise."""
    schedules: dict[str, Schedule] = {}

    @property
    def all_schedules(self) -> dict[str, Schedule]:
        return {**PRESETS, **self.schedules}


class TrainingRecipe(_Section, frozen=True):
    """`[training]`: what a round does unless the owner's configuration says otherwise."""

    epochs: Count = 10
    """How often a round sees each of the owner's samples."""
    batch_size: Count = 32
    """Samples a step, replayed ones among them."""
    learning_rate: Positive = 1e-3
    """The highest one of a round."""
    replay: Fraction = 0.5
    """Share of each batch that is drawn from the anchor set."""
    views: Count = 1
    """In how many views each of the owner's samples is seen; see `[augmentation]`."""


class Recipe(_Section, frozen=True):
    """The whole recipe."""

    name: str
    """Of the artifact set."""
    licence: str
    """Of the weights and of the anchor set."""
    classes: tuple[str, ...]
    """In the order of the logits of both networks."""
    anchor: str
    """An .npz with `inputs` (as stored) and `labels`; `load_recipe` makes a path relative to the recipe absolute."""
    description: str = ""
    """For people."""
    spare_classes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Outputs of the Mentee behind those of `classes`, for classes that its owner names (`mmd label --new`)."""
    seed: int = 0
    """Of projectors that cannot be fitted."""
    dropout: Literal["drop", "keep"] = "drop"
    """What becomes of the Mentee's Dropout layers: gone, or trained with masks that the engines are given."""
    commands: tuple[str, ...] = ()
    """How the two networks were made, for whoever wants to make them again; not read by `fuse`."""
    nets: dict[str, NetRecipe] = {}
    """What `mmd-tools train` makes the two networks of; not read by `fuse`."""
    input: InputRecipe = InputRecipe()
    pairs: Literal["named", "auto"] = "named"
    """Whether the pairs are those of `[[probe]]`, or found by what the layers do on the anchor set."""
    auto: AutoRecipe | None = None
    probe: tuple[ProbeRecipe, ...] = ()
    loss: LossRecipe = LossRecipe()
    optimizer: OptimizerSpec = OptimizerSpec()
    training: TrainingRecipe = TrainingRecipe()
    augmentation: Augmentation | None = None
    """How far a view of an owner's sample may be from it."""


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
        if probe.loss == "similarity" and recipe.training.batch_size == 1:
            raise UsageError(f"`probe[{index}].loss` compares the samples of a batch; a batch_size of 1 has one only.")
    known = loss.all_schedules
    if recipe.loss.default_schedule not in known:
        raise UsageError(
            f"there is no schedule `{recipe.loss.default_schedule}`; {nearest(recipe.loss.default_schedule, known)}"
        )
    for name, schedule in recipe.loss.schedules.items():
        for term in ("alpha", "beta", "gamma"):
            _check_points(f"loss.schedules.{name}.{term}", getattr(schedule, term))


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
    for key in ("epsilon", "weight_decay", "clip_norm"):
        if not 0 <= getattr(spec, key) < math.inf:
            raise UsageError(f"`optimizer.{key}` is {getattr(spec, key)}; it must be 0 or more, and finite.")
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


def nearest(name: str, known: Iterator[str] | dict[str, Any] | set[str] | tuple[str, ...] | list[str]) -> str:
    """Return the end of an error message: the nearest known names, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(f'`{one}`' for one in near)}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known: {shown}."
