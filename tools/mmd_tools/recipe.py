"""What does the maker of an artifact set ask for? The structures behind `recipe.toml`.

An unknown key is an error that names the nearest known one.
"""

from typing import Annotated, Literal

import msgspec

from mmd.artifact.manifest import OptimizerSpec, Point, Schedule
from mmd.augmentation import Augmentation
from mmd_tools.nets import NetRecipe
from mmd_tools.presets import PRESETS

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seed = Annotated[int, msgspec.Meta(ge=0)]
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
    labelled_schedule: str = ""
    """What it follows instead as far as its samples have labels: both are mixed by the share with one. Empty: no."""
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
    seed: Seed = 0
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
