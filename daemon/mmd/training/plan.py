"""What exactly will this round do? Everything that decides its bits, frozen on disk before its first step.

No numpy here: the supervisor opens rounds and reads their state without it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mmd import durable
from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import Manifest, Point, Schedule
from mmd.augmentation import Augmentation, usual_augmentation
from mmd.config import Config, GateConfig
from mmd.errors import StoreDamaged, TrainingFailed, UsageError
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.training.curves import mixed
from mmd.training.folds import assign_folds, fold_steps

FOLDS_NAME = "folds"
_WARMUP_SHARE = 0.05


class RoundPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in `plan.json`. Two runs of one plan end in the same bits, however often they are killed."""

    format: int = 1
    number: int
    created: float
    """Seconds since the epoch."""
    artifact_sha256: str
    engine: Literal["portable", "ort_training"]
    variant: Literal["auto", "cached", "fused"] = "cached"
    """auto: not decided yet; the trainer measures, and writes what it decided before its first step."""
    cache_mib: float = 256.0
    """How large the cache of views and of what the Mentor says may become."""
    threads: int
    seed: int
    preset: str
    """The name of the schedule, or of the one that is mixed with the set's `labelled_schedule`."""
    schedule: Schedule
    temperature: float
    hint_weights: tuple[float, ...]
    hint_schedules: tuple[tuple[Point, ...], ...] = ()
    """As in the manifest; plans from before there were any have none."""
    epochs: int
    steps: int
    batch_size: int
    micro_batch: int = 0
    """Samples computed at once; 0: all of the batch."""
    replay_per_batch: int
    """Places of each batch that are drawn from the replay half of the anchor set."""
    learning_rate: float
    """The highest one; see `mmd.training.schedule.learning_rate_at`."""
    weight_decay: float | None = None
    clip_norm: float | None = None
    """None in plans from before these could be chosen: what the set says."""
    warmup_steps: int
    checkpoint_every: int
    views: int = 1
    """In how many views each sample is seen; see `mmd.training.batches`."""
    augmentation: Augmentation | None = None
    """How far a view may be from its sample; None when there is only one."""
    view_seed: int = 0
    """The same in every round, so that a view stays what it was."""
    classes: tuple[str, ...] = ()
    """Of the outputs that are judged and predicted; empty in plans from before owners could name any: the set's."""
    start_generation: int
    sample_ids: tuple[str, ...]
    """What is trained on, in the order that batches index; never a held-out sample."""
    labels: tuple[int, ...]
    """Of each of them when the round began, -1 for none: a label given in mid-round waits for the next one."""
    folds: tuple[int, ...] = ()
    """Which fold model leaves each of them out, -1 for none; empty when there are none. See `mmd.training.folds`."""
    blends: tuple[float, ...] = (1.0,)
    """Shares of what the round learned that its candidates have; the rest is the start's. 0 needs the memory."""
    memory: bool = False
    """Whether the candidates remember the samples; see `mmd.promotion.memory`."""
    gate: GateConfig
    int8: bool = False
    """Whether the candidate is quantised before it is judged."""

    @property
    def listens_to_mentor(self) -> bool:
        """Whether any step asks the Mentor anything."""
        hints = any(self.hint_weights) and any(value > 0 for _, value in self.schedule.beta)
        return hints or any(value > 0 for _, value in self.schedule.gamma)

    @property
    def fold_steps(self) -> tuple[int, ...]:
        """How many steps each fold model takes."""
        return fold_steps(self.folds, epochs=self.epochs, own_per_batch=self.batch_size - self.replay_per_batch)

    @property
    def steps_in_all(self) -> int:
        """Those of the fold models and of the candidate."""
        return sum(self.fold_steps) + self.steps


class RoundProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the open round had come when it last made a checkpoint, for a reader of the folder."""

    number: int
    step: int
    steps: int
    loss: float | None


def make_plan(
    number: int,
    artifact_set: ArtifactSet,
    config: Config,
    *,
    labels: Mapping[str, int],
    holdout_ids: Collection[str],
    labelled_holdout: int = 0,
    seen: Collection[str] = (),
    classes: Sequence[str] = (),
    start_generation: int,
    now: float,
) -> RoundPlan:
    """Resolve configuration, set and samples into one plan. Raises `UsageError` for a preset that the set lacks.

    `labels` has every sample to train on, with its class or -1; `seen` those that the serving model was trained on.
    There are fold models only while fewer than `gate.enough_holdout` labelled samples are held out.
    """
    assert not labels.keys() & set(holdout_ids), "a held-out sample must never be trained on"
    manifest, training = artifact_set.manifest, config.training
    if not labels:
        raise UsageError("There is no sample to train on; add some with `mmd ingest`.")
    preset, schedule = _schedule(manifest, training.preset, labels.values())
    batch_size = training.batch_size or manifest.training.batch_size
    replay = manifest.training.replay if training.replay is None else training.replay
    replay_per_batch = min(round(batch_size * replay), batch_size - 1)
    epochs = training.epochs or manifest.training.epochs
    views = training.views or manifest.training.views
    steps = epochs * math.ceil(len(labels) / (batch_size - replay_per_batch))
    fold_count = config.gate.folds if labelled_holdout < config.gate.enough_holdout else 0
    return RoundPlan(
        number=number,
        created=now,
        artifact_sha256=artifact_set.sha256,
        engine="portable" if training.engine == "auto" else training.engine,
        variant=training.variant,
        cache_mib=training.cache_mib,
        threads=training.threads,
        seed=training.seed + number,
        preset=preset,
        schedule=schedule,
        temperature=manifest.loss.temperature,
        hint_weights=manifest.loss.hint_weights,
        hint_schedules=manifest.loss.hint_schedules,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        micro_batch=training.micro_batch or 0,
        replay_per_batch=replay_per_batch,
        learning_rate=training.learning_rate or manifest.training.learning_rate,
        weight_decay=manifest.optimizer.weight_decay if training.weight_decay is None else training.weight_decay,
        clip_norm=manifest.optimizer.clip_norm if training.clip_norm is None else training.clip_norm,
        warmup_steps=round(steps * _WARMUP_SHARE),
        checkpoint_every=training.checkpoint_every_steps,
        views=views,
        augmentation=_augmentation(artifact_set.manifest, config) if views > 1 else None,
        view_seed=training.seed,
        classes=tuple(classes) or manifest.classes,
        start_generation=start_generation,
        sample_ids=tuple(labels),
        labels=tuple(labels.values()),
        folds=assign_folds(labels, seen=seen, count=fold_count),
        blends=((0.0, *training.blends) if training.memory else training.blends) or (1.0,),
        memory=training.memory,
        gate=config.gate,
        int8=config.promotion.int8,
    )


def _schedule(manifest: Manifest, asked: str | None, labels: Collection[int]) -> tuple[str, Schedule]:
    """Return the schedule of a round and its name: as the owner says, or by how many of the samples have labels.

    Where a set has a `labelled_schedule`, that one holds as far as there are labels and the default one as far as
    there are none: the Mentor weighs as much as there are samples of which it alone says something.
    """
    loss = manifest.loss
    labelled = sum(label >= 0 for label in labels) / len(labels)
    if asked or not labelled:
        name = asked or "unlabelled"
        return name, _preset(manifest, name)
    default, other = loss.default_schedule, loss.labelled_schedule or loss.default_schedule
    if labelled == 1 or other == default:
        return other, _preset(manifest, other)
    return default, mixed(_preset(manifest, default), _preset(manifest, other), labelled)


def _preset(manifest: Manifest, name: str) -> Schedule:
    schedule = manifest.loss.schedules.get(name)
    if schedule is None:
        known = ", ".join(sorted(manifest.loss.schedules))
        raise UsageError(f"The artifact set {manifest.name} has no preset `{name}`; it has: {known}.")
    return schedule


def _augmentation(manifest: Manifest, config: Config) -> Augmentation:
    """Return how far views may be from their samples: as the owner says, or the set, or as is usual for images."""
    spec = manifest.input
    chosen = config.training.augmentation or manifest.augmentation or usual_augmentation(spec.kind, spec.shape)
    if chosen is None:
        raise UsageError(
            f"The artifact set {manifest.name} does not say how a {spec.kind} may be varied; "
            "say it in [training.augmentation], or set training.views to 1."
        )
    misfit = chosen.misfit(spec.kind)
    if misfit is not None:
        raise UsageError(f"training.augmentation.{misfit} does not vary an input of kind {spec.kind}; take it out.")
    return chosen


def write_plan(state: StateDir, plan: RoundPlan) -> Path:
    """Put `plan.json` on disk and return the round's folder. Nothing of a round exists before its plan does."""
    folder = round_folder(state, plan.number)
    durable.make_folder(folder)
    durable.write_bytes(folder / "plan.json", msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
    return folder


def read_plan(folder: Path) -> RoundPlan:
    """Read `plan.json`. Raises `StoreDamaged` when it is missing or does not parse."""
    try:
        return msgspec.json.decode((folder / "plan.json").read_bytes(), type=RoundPlan)
    except OSError as error:
        raise StoreDamaged(
            f"Round {folder.name} has no readable plan.json ({error.strerror}); it is abandoned."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(f"Round {folder.name}/plan.json does not parse ({error}); it is abandoned.") from error


def next_round_number(state: StateDir) -> int:
    return max(round_numbers(state), default=0) + 1


class _LossLine(msgspec.Struct):
    step: int
    loss: float


def fold_folder(folder: Path, fold: int) -> Path:
    """Return where fold model `fold` of the round in `folder` has its checkpoints and losses."""
    return folder / FOLDS_NAME / str(fold)


def read_progress(folder: Path, plan: RoundPlan) -> RoundProgress:
    """Return how far the round in `folder` has come, from the last whole lines of its losses."""
    lines = [_last_line(fold_folder(folder, fold)) for fold in range(len(plan.fold_steps))] + [_last_line(folder)]
    begun = [line for line in lines if line is not None]
    return RoundProgress(
        number=plan.number,
        step=sum(line.step for line in begun),
        steps=plan.steps_in_all,
        loss=begun[-1].loss if begun else None,
    )


def _last_line(folder: Path) -> _LossLine | None:
    try:
        lines = (folder / "losses.jsonl").read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line, type=_LossLine)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # the last line of a killed trainer may be half
    return None


def fail_without_numbers(plan: RoundPlan, recoveries: int) -> TrainingFailed:
    """Return the error of a round whose losses are still not finite after so many recoveries."""
    return TrainingFailed(
        f"Round {plan.number} gave losses that are not finite {recoveries + 1} times, down to a learning rate of "
        f"{plan.learning_rate * 0.1**recoveries:.1g}; lower training.learning_rate and try again."
    )
