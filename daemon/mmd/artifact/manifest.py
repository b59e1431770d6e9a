"""What does an artifact set say about itself? The structures behind `manifest.json`; see `artifacts/FORMAT.md`."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from mmd.augmentation import Augmentation

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"

Point = tuple[float, float]
"""(progress through the round in [0, 1], coefficient)"""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class InputSpec(_Part, frozen=True):
    """The one input of Mentor and Mentee. A value v becomes (v * scale - mean[c]) / std[c].

    The values of an image or a tensor are stored as they are; those of audio are what `preprocess.onnx` makes of the
    stored recording.
    """

    name: str
    kind: Literal["image", "tensor", "audio"]
    shape: tuple[int, ...]
    """Without the batch: (channels, height, width) for an image, (1, mels, frames) for audio."""
    scale: float = 1.0
    """What the stored numbers are multiplied with first: 1/255 for 8-bit images."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    """One entry, or one a channel."""
    stored: tuple[int, ...] = ()
    """Shape of a stored sample where it is not `shape`: (length,) for audio."""
    rate_hz: float = 0.0
    """At which audio is stored or a window of measurements was taken; 0 where there is no such thing."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.stored or self.shape


class ProbePair(_Part, frozen=True):
    """A layer of the Mentor that a layer of the Mentee is compared with."""

    mentor: str
    """Name of the tensor in `mentor.onnx`, an output there: the layer, or what was made of it to be compared."""
    mentee: str
    """Name of the tensor in the training graphs."""
    mentor_shape: tuple[int, ...]
    mentee_shape: tuple[int, ...]
    """Both without the batch: the output's, and the Mentee's layer as it is."""
    loss: str
    projector: str | None = None
    """Name of the projector's weight among the parameters."""
    mentor_layer: str = ""
    """The layer of the Mentor that `mentor` was made of; empty in sets from before this was told."""
    width: Literal["select", "zero-pad", "project", "pca"] | None = None
    """How different numbers of channels were brought together."""
    scope: Literal["whole", "up-to-probe", "layer"] = "whole"
    """How far the hint's gradient goes, and whether others pass its layer."""


class Schedule(_Part, frozen=True):
    """Piecewise linear coefficients over the progress of a round."""

    alpha: tuple[Point, ...]
    """Of the label loss: points (progress through the round, coefficient)."""
    beta: tuple[Point, ...]
    """Shared by all probe pairs, each times its entry in `LossSpec.hint_weights`."""
    gamma: tuple[Point, ...]
    """Of the soft loss."""


class LossSpec(_Part, frozen=True):
    temperature: float
    hint_weights: tuple[float, ...]
    """One a probe pair."""
    schedules: dict[str, Schedule]
    """Has at least obedient, adamant, independent and unlabelled."""
    default_schedule: str
    """What a round follows unless its owner chooses another; see `labelled_schedule`."""
    labelled_schedule: str = ""
    """What it follows in place of that as far as its samples have labels: the two are mixed by the share of samples
    with one. Empty: the default throughout."""
    hint_schedules: tuple[tuple[Point, ...], ...] = ()
    """One a probe pair: a factor over the progress of the round on beta and the pair's weight; without points, 1."""
    soft: Literal["kl", "mse", "dkd"] = "kl"
    label_smoothing: float = 0.0
    tckd_weight: float = 1.0
    nckd_weight: float = 8.0
    """The two of `dkd`; constants in the graphs, as is the label smoothing."""


class OptimizerSpec(_Part, frozen=True):
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101), bias-corrected, decay applied to the parameter itself; or SGD.

    `weight_decay` and `clip_norm` are inputs of the portable graphs; what stands here is what a round feeds unless the
    owner says otherwise. Everything else is a constant in the graphs.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD as PyTorch has it."""
    beta1: float = 0.9
    """AdamW: how slowly the first moment follows the gradient."""
    beta2: float = 0.999
    """AdamW: how slowly the second moment follows its square."""
    epsilon: float = 1e-8
    """AdamW: what keeps the divisor from 0."""
    weight_decay: float = 0.01
    """The share of a weight that is taken from it, times the learning rate."""
    momentum: float = 0.0
    """SGD only; 0 keeps no moment."""
    nesterov: bool = False
    """SGD only: look ahead along the momentum."""
    clip_norm: float = 0.0
    """All gradients together are shortened to this length where they are longer; 0: never."""

    @property
    def moments(self) -> int:
        """How many tensors of its own shape the optimizer keeps for each parameter."""
        if self.kind == "adamw":
            return 2
        return 1 if self.momentum else 0


class DropoutSpec(_Part, frozen=True):
    """A Dropout of the Mentee that is trained: its mask is an input of the training graphs."""

    name: str
    """Of the input, [N, *shape]: 0 where a value is dropped, 1 / (1 - ratio) elsewhere; all 1 where nothing is."""
    shape: tuple[int, ...]
    ratio: float


class TrainingDefaults(_Part, frozen=True):
    """What the maker of the set recommends for one owner's round."""

    epochs: int
    batch_size: int
    learning_rate: float
    replay: float
    """Share of each batch that is drawn from the anchor set."""
    views: int = 1
    """In how many views each sample of the owner is seen, the sample itself among them."""


class Parameter(_Part, frozen=True):
    name: str
    shape: tuple[int, ...]
    role: Literal["mentee", "projector"]


class Graphs(_Part, frozen=True):
    """File names inside the set. `fused` runs the Mentor in the step; `cached` takes its outputs as inputs."""

    inference: str = "mentee.onnx"
    mentor: str = "mentor.onnx"
    training: str = "training_model.onnx"
    eval: str = "eval_model.onnx"
    optimizer: str = "optimizer_model.onnx"
    checkpoint: str = "checkpoint"
    training_cached: str = "training_model_cached.onnx"
    portable_fused: str = "portable_fused.onnx"
    portable_cached: str = "portable_cached.onnx"
    parameters: str = "parameters.safetensors"
    """The start values of every parameter, shipped weights and fresh projectors."""
    anchor: str = "anchor.npz"
    """`inputs` (as stored, before scale, mean and std) and `labels` (int64)."""
    resample: str = "resample.onnx"
    """Audio only: a recording of any rate and length in, the stored one out."""
    preprocess: str = "preprocess.onnx"
    """Audio only: stored recordings in, features out."""


class FileRecord(_Part, frozen=True):
    sha256: str
    size: int


class Manifest(_Part, frozen=True):
    """Everything in `manifest.json`."""

    format: int
    name: str
    description: str
    licence: str
    input: InputSpec
    classes: tuple[str, ...]
    logits: str
    """Name of the Mentee's output in `mentee.onnx`: [batch, classes], before softmax."""
    mentor_logits: str
    probes: tuple[ProbePair, ...]
    loss: LossSpec
    optimizer: OptimizerSpec
    training: TrainingDefaults
    parameters: tuple[Parameter, ...]
    graphs: Graphs
    files: dict[str, FileRecord]
    memory_estimate_bytes: dict[str, int]
    """Peak of one step at the recommended batch size, an entry an engine."""
    versions: dict[str, str]
    """The packages that built the set."""
    spare_classes: int = 0
    """Outputs of the Mentee behind those of `classes`, for classes that its owner names."""
    dropout: tuple[DropoutSpec, ...] = ()
    augmentation: Augmentation | None = None
    """How far a view may be from its sample; None in a set whose maker does not say."""
    checksum: str = ""
    """SHA-256 of the file with this value left empty; empty in a set from before there was one."""


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON, indented, keys in the order of the structures, with a final newline and the checksum filled in."""
    checksum = hashlib.sha256(_encoded(msgspec.structs.replace(manifest, checksum=""))).hexdigest()
    return _encoded(msgspec.structs.replace(manifest, checksum=checksum))


def is_intact(manifest: Manifest, encoded: bytes) -> bool:
    """Return whether `encoded`, which `manifest` was read from, is what its checksum was made from."""
    blank = encoded.replace(f'"{manifest.checksum}"'.encode(), b'""')
    return not manifest.checksum or hashlib.sha256(blank).hexdigest() == manifest.checksum


def _encoded(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def manifest_path(folder: Path) -> Path:
    return folder / MANIFEST_NAME
