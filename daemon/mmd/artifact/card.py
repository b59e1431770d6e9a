"""Which model serves, and is it whole? The reading half of `models/`, for everyone who serves one.

`models/current` is a link to one folder `gen-NNNN`, which never changes once it exists. Its `card.json` holds the hash
of the network beside it, so a reader that checks the hash of the bytes it is about to run never runs half a model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from mmd.errors import StoreDamaged

CARD_NAME = "card.json"
MODEL_NAME = "mentee.onnx"
PARAMETERS_NAME = "parameters.safetensors"
WITHDRAWN_NAME = "withdrawn"
"""Present in the folder of a generation that was rolled back from; it never serves again by itself."""

_PREFIX = "gen-"
Confusion = tuple[tuple[int, ...], ...]
"""[true class][predicted class] -> count"""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate decided about one candidate, and every figure that it decided from."""

    promoted: bool
    code: str
    """better | too_few_to_judge | not_finite | anchor_fell | fewer_right | not_better_than_chance"""
    reason: str
    """One sentence for the owner."""
    round: int
    generation_before: int
    holdout_total: int
    holdout_right_before: int
    holdout_right_after: int
    log_loss_before: float
    log_loss_after: float
    """Mean over all samples that judged, held out and out of fold, in nats."""
    p_log_loss: float
    """Sign-flip permutation test on the per-sample log losses, one-sided."""
    p_right: float
    """Exact McNemar test on right and wrong, one-sided."""
    p_value: float
    """Of the best of them, corrected for having looked at all; this one is held against `significance`."""
    significance: float
    anchor_total: int
    anchor_right_before: int
    anchor_right_after: int
    anchor_margin: float
    classes: tuple[str, ...]
    confusion_before: Confusion
    confusion_after: Confusion
    """On the labelled holdout."""
    out_of_fold_total: int = 0
    """Labelled training samples that the serving model has not seen: the fold model trained without each answered."""
    out_of_fold_right_before: int = 0
    out_of_fold_right_after: int = 0
    p_certainty: float = 1.0
    """Sign-flip permutation test on the probability of each sample's true class, mean over its views, one-sided."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `card.json`."""

    format: int = 1
    generation: int
    sha256: str
    """Of `mentee.onnx`."""
    parameters_sha256: str
    artifact_sha256: str
    created: float
    """Seconds since the epoch."""
    round: int | None = None
    """The round that made it; `None` for the shipped model."""
    parent: int | None = None
    """The generation that its round started from."""
    probation_hours: float = 0.0
    verdict: Verdict | None = None
    classes: tuple[str, ...] = ()
    """Of its outputs, in their order: the set's, and those that the owner named and it has learned; outputs behind them
    are never predicted. Empty: the set's alone."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Of `mentee.onnx`; the parameters beside it, which the next round starts from, are always fp32."""
    blend: float = 1.0
    """Share of what the round learned in its weights; the rest is the parent's. 0: those of the parent."""
    remembers: int = 0
    """How many of the owner's samples vote beside the network; see `mmd.promotion.memory`."""
    sample_ids: tuple[str, ...] = ()
    """Every sample that left a trace in the weights or the memory, those of its ancestors included."""

    def phase(self, now: float) -> str:
        """Say by the time alone: `shipped`, `probation` or `confirmed`; `mmd.artifact.review.phase_of` knows all."""
        if self.round is None:
            return "shipped"
        return "probation" if now < self.created + self.probation_hours * 3600 else "confirmed"

    @property
    def makeup(self) -> str:
        """What serves, in words; see `makeup`."""
        return "the shipped weights" if self.round is None else makeup(self.blend, self.remembers, self.precision)


def makeup(blend: float, remembers: int, precision: Literal["fp32", "int8"]) -> str:
    """Say what a candidate is made of: "the trained weights with a memory of 31 samples"."""
    weights = {0.0: "the weights that served before", 1.0: "the trained weights"}.get(
        blend, f"weights {blend:.0%} of the way to the trained ones"
    )
    memory = f" with a memory of {remembers} sample{'s' * (remembers != 1)}" if remembers else ""
    return weights + memory + (", in int8" if precision == "int8" else "")


class VerifiedModel(msgspec.Struct, frozen=True):
    """A model whose bytes were checked against its card."""

    folder: Path
    card: ModelCard
    model: bytes


def generation_folder(models: Path, generation: int) -> Path:
    return models / f"{_PREFIX}{generation:04d}"


def generations(models: Path) -> list[int]:
    """Return the numbers of all generations on disk, oldest first, damaged ones included."""
    return sorted(_numbers(models))


def _numbers(models: Path) -> Iterator[int]:
    for folder in models.glob(f"{_PREFIX}*"):
        digits = folder.name.removeprefix(_PREFIX)
        if digits.isdigit():
            yield int(digits)


def linked_generation(models: Path) -> int | None:
    """Return the generation that `current` names, whether it is whole or not; `None` without a readable link."""
    try:
        name = (models / "current").readlink().name
    except OSError:
        return None
    digits = name.removeprefix(_PREFIX)
    return int(digits) if digits.isdigit() else None


def is_withdrawn(folder: Path) -> bool:
    return (folder / WITHDRAWN_NAME).exists()


def read_card(folder: Path) -> ModelCard:
    """Read `card.json` of the generation in `folder`. Raises `StoreDamaged` when it is missing or does not parse."""
    try:
        return msgspec.json.decode((folder / CARD_NAME).read_bytes(), type=ModelCard)
    except OSError as error:
        raise StoreDamaged(f"{folder.name} has no readable {CARD_NAME} ({error.strerror}); it cannot serve.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(f"{folder.name}/{CARD_NAME} does not parse ({error}); it cannot serve.") from error


def read_model(folder: Path) -> VerifiedModel:
    """Read and verify the model in `folder`. Raises `StoreDamaged` naming the file that does not verify."""
    card = read_card(folder)
    model = _verified(folder / MODEL_NAME, card.sha256)
    _verified(folder / PARAMETERS_NAME, card.parameters_sha256)
    return VerifiedModel(folder=folder, card=card, model=model)


def _verified(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreDamaged(f"{path.parent.name}/{path.name} cannot be read ({error.strerror}).") from error
    import hashlib  # slow to import, and no command that only reads cards needs it

    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreDamaged(f"{path.parent.name}/{path.name} fails its checksum.")
    return data


def newest_whole_model(models: Path) -> tuple[VerifiedModel | None, list[str]]:
    """Return the model that serves, and a sentence for every model that should have and could not.

    That is the one `current` names; when it does not verify, the newest that does and was not rolled back from.
    """
    complaints: list[str] = []
    linked = linked_generation(models)
    others = [n for n in reversed(generations(models)) if n != linked]
    usable = [n for n in others if not is_withdrawn(generation_folder(models, n))]
    for number in [*([] if linked is None else [linked]), *usable]:
        try:
            model = read_model(generation_folder(models, number))
        except StoreDamaged as error:
            complaints.append(str(error))
            continue
        if complaints:
            complaints.append(f"Generation {number} serves instead.")
        return model, complaints
    return None, complaints
