"""How do the shipped weights come about? Fuse into a temporary folder, train through an engine, keep the best epoch."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.manifest import InputSpec, Schedule
from mmd.artifact.preprocess import Preprocessing
from mmd.augmentation import Augmentation
from mmd.errors import TrainingFailed, UsageError
from mmd.training.augment import augment
from mmd.training.dropout import dropout_masks
from mmd.training.engine import Batch, Engine, LossWeights
from mmd.training.engines import open_engine
from mmd.training.schedule import betas_at
from mmd_tools.audio.augment import augment_recordings, mask_features
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import read_network
from mmd_tools.nearest import nearest
from mmd_tools.nets import AudioAugmentRecipe, PretrainRecipe, with_weights
from mmd_tools.recipe import Recipe
from mmd_tools.train_data import Part
from mmd_tools.train_score import Scorer

WARMUP_STEPS = 200
NO_AUDIO_AUGMENT = AudioAugmentRecipe()
LABELS_ONLY = Schedule(alpha=((0.0, 1.0),), beta=((0.0, 0.0),), gamma=((0.0, 0.0),))


@dataclass(frozen=True)
class TrainRequest:
    """What to train, on what, and how."""

    net: Path
    """The network at its start, as ONNX."""
    mentor: Path | None
    recipe: Recipe
    training: PretrainRecipe
    augment: Augmentation
    train: Part
    validation: Part
    audio_augment: AudioAugmentRecipe = NO_AUDIO_AUGMENT
    seed: int = 0
    engine: str = "auto"
    threads: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only."""
        return len(self.train.labels) // self.training.batch_size

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.training.epochs


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    number: int
    mean_loss: float
    validation_accuracy: float
    model: bytes


def train_network(
    request: TrainRequest,
    *,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Epoch:
    """Return the epoch that names most of the validation samples rightly; the earlier one of two equals.

    Equal requests end in equal bits on one machine. Raises `TrainingFailed` when a loss is not finite.
    """
    if not request.steps_per_epoch:
        raise UsageError(
            f"There are {len(request.train.labels)} training samples, less than one batch of "
            f"{request.training.batch_size}; make the batch smaller."
        )
    schedule = _schedule(request)
    with tempfile.TemporaryDirectory(prefix="mmd-train-") as folder:
        fuse(request.mentor, request.net, _recipe_of(request), Path(folder) / "set")
        artifact_set = open_set(Path(folder) / "set")
        engine = open_engine(artifact_set, name=request.engine, variant="fused", threads=request.threads)
        return _run_epochs(request, artifact_set, engine, schedule, on_step, on_epoch)


def _recipe_of(request: TrainRequest) -> Recipe:
    """Return the recipe as it is for this network: no pairs without a Mentor, no spare outputs where it has none."""
    recipe = request.recipe
    if request.mentor is None:
        recipe = msgspec.structs.replace(recipe, probe=(), pairs="named", auto=None)
    if recipe.spare_classes and read_network(request.net, "mentee").classes == len(recipe.classes):
        recipe = msgspec.structs.replace(recipe, spare_classes=0)
    return recipe


def _run_epochs(
    request: TrainRequest,
    artifact_set: ArtifactSet,
    engine: Engine,
    schedule: Schedule,
    on_step: Callable[[int, float], None],
    on_epoch: Callable[[Epoch], None],
) -> Epoch:
    network = onnx.load(artifact_set.path(artifact_set.manifest.graphs.inference))
    # One stream for the order and one for the movements: changing the one leaves the other as it was.
    order, movement = (np.random.default_rng([request.seed, stream]) for stream in (0, 1))
    spec = artifact_set.manifest.input
    batches = _Batches(request, spec, Preprocessing.of(artifact_set, threads=request.threads), movement)
    best: Epoch | None = None
    step = 0
    for number in range(1, request.training.epochs + 1):
        losses = []
        places = order.permutation(len(request.train.labels))
        for start in range(0, request.steps_per_epoch * request.training.batch_size, request.training.batch_size):
            batch = batches.at(places[start : start + request.training.batch_size])
            masks = dropout_masks(artifact_set.manifest.dropout, request.seed, step, len(batch.inputs))
            batch = replace(batch, masks=masks)
            weights = _weights(schedule, artifact_set, step / max(1, request.steps - 1))
            loss = engine.step(batch, weights, learning_rate(request.training, step, request.steps)).total
            if not np.isfinite(loss):
                raise TrainingFailed(f"Step {step} of epoch {number} gave the loss {loss}; lower the learning rate.")
            losses.append(loss)
            step += 1
            on_step(step, loss)
        model = with_weights(network, dict(engine.state().parameters)).SerializeToString(deterministic=True)
        accuracy = Scorer(model, request.recipe.input, threads=request.threads).accuracy(
            request.validation.inputs, request.validation.labels
        )
        epoch = Epoch(number, float(np.mean(losses)), accuracy, model)
        on_epoch(epoch)
        if best is None or epoch.validation_accuracy > best.validation_accuracy:
            best = epoch
    assert best is not None, "a recipe has at least one epoch"
    return best


@dataclass(frozen=True)
class _Batches:
    """Draws varied batches from the training samples."""

    request: TrainRequest
    spec: InputSpec
    preprocessing: Preprocessing
    movement: np.random.Generator

    def at(self, places: np.ndarray) -> Batch:
        request = self.request
        varied: np.ndarray = request.train.inputs[places]
        if self.spec.kind != "audio":
            varied = augment(varied, request.augment, self.movement)
        else:
            rate_hz = round(self.spec.rate_hz)
            varied = augment_recordings(varied, request.audio_augment, rate_hz, self.movement)
            varied = mask_features(self.preprocessing(varied), request.audio_augment, self.movement)
        return Batch(normalise(varied, self.spec), request.train.labels[places])


def learning_rate(training: PretrainRecipe, step: int, steps: int) -> float:
    """Return the learning rate of the step that follows `step` finished ones: a linear warm-up, then decay to 0."""
    warmup = min(WARMUP_STEPS, steps // 10)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    share = 0.5 * (1 + np.cos(np.pi * progress)) if training.decay == "cosine" else 1 - progress
    return training.learning_rate * float(share)


def _schedule(request: TrainRequest) -> Schedule:
    if request.mentor is None:
        return LABELS_ONLY
    schedules = request.recipe.loss.all_schedules
    name = request.training.schedule
    if name not in schedules:
        raise UsageError(f"There is no schedule `{name}`; {nearest(name, schedules)}")
    return schedules[name]


def _weights(schedule: Schedule, artifact_set: ArtifactSet, progress: float) -> LossWeights:
    def at(points: tuple[tuple[float, float], ...]) -> float:
        return float(np.interp(progress, [place for place, _ in points], [value for _, value in points]))

    loss = artifact_set.manifest.loss
    return LossWeights(
        alpha=at(schedule.alpha),
        betas=betas_at(schedule, loss.hint_weights, loss.hint_schedules, progress),
        gamma=at(schedule.gamma),
        temperature=loss.temperature,
    )
