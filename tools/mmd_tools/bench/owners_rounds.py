"""What does the product make of an owner's samples? Its own store, plan, trainer and gate, in a folder of their own.

Nothing here decides anything: a `Lesson` is configuration, and everything after it is what `mmd train` does.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from mmd.artifact.card import MODEL_NAME, Verdict
from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import Schedule
from mmd.artifact.preprocess import Preprocessing
from mmd.config import Config, GateConfig, SamplesConfig, TrainingConfig
from mmd.errors import UsageError
from mmd.layout import StateDir, round_folder
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import CANDIDATE_NAME, VERDICT_NAME, read_verdict
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore
from mmd.serving.form import form_of
from mmd.supervisor.rounds import begin_round, finish_round
from mmd.supervisor.trainer import Departure, Voice, train
from mmd.training.engines import open_engine
from mmd.training.plan import RoundPlan, read_plan, write_plan
from mmd_tools.train_data import Part


@dataclass(frozen=True)
class Again:
    """What is different when a training is judged once more."""

    blends: tuple[float, ...]
    memory: bool
    is_gated: bool = False
    gate: GateConfig | None = None

    def changed(self, plan: RoundPlan) -> RoundPlan:
        return msgspec.structs.replace(plan, blends=self.blends, memory=self.memory, gate=self.gate or plan.gate)


@dataclass(frozen=True)
class Lesson:
    """How one row of the table trains; the default is the product's."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    is_gated: bool = False
    """Whether the row shows what serves after the gate, not the candidate."""
    blends: tuple[float, ...] | None = None
    """Shares of the trained weights, where 0 is not one of them although there is a memory."""
    labelled: float = 1.0
    """Share of the samples that the owner has labelled: the first ones."""
    takes_unlabelled: bool = True
    """Whether the others are ingested, too."""
    has_hints: bool = True
    temperature: float | None = None
    schedule: Schedule | None = None
    judged_again: Mapping[str, "Again"] = field(default_factory=dict)
    """Further rows for which the same training is judged another way."""

    def changed(self, plan: RoundPlan) -> RoundPlan:
        """Return `plan` with what the configuration has no key for, because it belongs to the artifact set."""
        return msgspec.structs.replace(
            plan,
            hint_weights=plan.hint_weights if self.has_hints else tuple(0.0 for _ in plan.hint_weights),
            temperature=plan.temperature if self.temperature is None else self.temperature,
            schedule=self.schedule or plan.schedule,
            blends=self.blends or plan.blends,
        )


@dataclass(frozen=True)
class Taught:
    """What came of a lesson."""

    candidate: bytes
    """The network as it was trained, whatever the gate said of it."""
    serving: bytes
    """The network that serves after the gate."""
    trained_on: Part
    held_out: int
    verdict: Verdict | None
    """`None` when there was nothing to train on."""
    cpu_seconds: float
    """Of the whole round: reading the samples, asking the Mentor, every step, the gate."""
    judged_again: Mapping[str, "Taught"] = field(default_factory=dict)
    """By row."""


class _Silent(Voice):
    def __call__(self, event: str, **fields: Any) -> None:
        """Nobody listens."""


@contextmanager
def owners_board(artifact_set: ArtifactSet, own: Part, *, labelled: int, config: Config) -> Iterator[StateDir]:
    """Give the state folder of an owner who has ingested `own`, as `mmd init` and `mmd ingest` leave it.

    The first `labelled` of the samples have their labels.
    """
    manifest = artifact_set.manifest
    with tempfile.TemporaryDirectory(prefix="mmd-owner-") as folder:
        state = StateDir(Path(folder))
        state.artifact_set.symlink_to(artifact_set.folder.absolute(), target_is_directory=True)
        ModelStore(state).create_shipped(artifact_set)
        with SampleStore.create(state.samples_db, form_of(manifest), holdout_fraction=config.samples.holdout) as store:
            store.add(
                NewSample(image.tobytes(), manifest.classes[label] if place < labelled else None, f"sample {place}")
                for place, (image, label) in enumerate(zip(own.inputs, own.labels, strict=True))
            )
        yield state


def teach(artifact_set: ArtifactSet, own: Part, lesson: Lesson, *, seed: int) -> Taught:
    """Run one round on `own` from the shipped model, up to the gate's verdict and what follows from it."""
    training = msgspec.structs.replace(lesson.training, seed=seed)
    config = Config(samples=lesson.samples, training=training, gate=lesson.gate)
    labelled = round(lesson.labelled * len(own.labels))
    if not lesson.takes_unlabelled:
        own = Part(own.inputs[:labelled], own.labels[:labelled])
    with owners_board(artifact_set, own, labelled=labelled, config=config) as state:
        models = ModelStore(state)
        shipped = models.current().model
        with SampleStore(state.samples_db) as store:
            trained_on, held_out = _preprocessed(artifact_set, store, store.training_ids()), len(store.holdout_ids())
            begun = time.process_time()
            try:
                plan = begin_round(state, config, store)
            except UsageError:
                # Every sample is held out: the product waits for more.
                nothing = Taught(shipped, shipped, trained_on, held_out, None, 0.0)
                return replace(nothing, judged_again=dict.fromkeys(lesson.judged_again, nothing))
            folder = round_folder(state, plan.number)

            def judged(plan: RoundPlan) -> Taught:
                """Let the trainer do what is left to do of `plan`: all of it, or the gate alone."""
                write_plan(state, plan)
                (folder / VERDICT_NAME).unlink(missing_ok=True)
                train(state, plan.number, _Silent(), Departure(), open_engine=open_engine)
                candidate, verdict = (folder / CANDIDATE_NAME / MODEL_NAME).read_bytes(), read_verdict(folder)
                serving = candidate if verdict is not None and verdict.promoted else shipped
                return Taught(candidate, serving, trained_on, held_out, verdict, time.process_time() - begun)

            taught = judged(lesson.changed(plan))
            plan, spent = read_plan(folder), taught.cpu_seconds
            others = {row: judged(again.changed(plan)) for row, again in lesson.judged_again.items()}
            if others:
                judged(plan)
            finish_round(state, plan.number, store)
            assert models.current().model == taught.serving, "what the gate lets through is what serves"
        # Training is what takes time; it was the same for all.
        others = {row: replace(other, cpu_seconds=spent) for row, other in others.items()}
        return replace(taught, judged_again=others)


def _preprocessed(artifact_set: ArtifactSet, store: SampleStore, ids: Sequence[str]) -> Part:
    inputs, labels = store.load(ids)
    return Part(Preprocessing.of(artifact_set)(inputs), labels)
