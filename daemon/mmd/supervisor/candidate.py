"""How does an open round become a judged candidate? Everything around the steps: samples, Mentor, export, gate."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmd import durable
from mmd.artifact.card import (
    PARAMETERS_NAME,
    ModelCard,
    Verdict,
    VerifiedModel,
    generation_folder,
    makeup,
    read_model,
)
from mmd.artifact.export import export_model
from mmd.artifact.int8 import quantise
from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.preprocess import Preprocessing
from mmd.errors import StoreDamaged
from mmd.layout import StateDir
from mmd.promotion.answers import Comparison
from mmd.promotion.closing import tidy_round
from mmd.promotion.evaluate import ask
from mmd.promotion.gate import Contender, Evidence, judge
from mmd.promotion.memory import with_memory, worth_remembering
from mmd.promotion.models import ModelStore, write_model
from mmd.promotion.outcome import CANDIDATE_NAME, VERDICT_NAME, RoundOutcome, read_outcome, read_verdict, write_verdict
from mmd.samples.store import SampleStore
from mmd.supervisor.rounds import mark_trained
from mmd.training.augment import view_of
from mmd.training.checkpoint import CheckpointFolder
from mmd.training.engine import Engine, Floats, TrainingState
from mmd.training.feeds import start_state
from mmd.training.folds import fold_plans, kept_places, left_out_places
from mmd.training.optimizer import chosen_optimizer
from mmd.training.plan import RoundPlan, fold_folder, read_plan, read_progress, round_folder, write_plan
from mmd.training.round import Listener, RoundData, RoundEnd, run_round
from mmd.training.round_data import OpenedRound, open_round_data

OpenEngine = Callable[..., Engine]
"""`mmd.training.engines.open_engine`, or a test's own."""


_CALIBRATION_SAMPLES = 256


class Abandoned(Exception):
    """The round's ground is gone (a sample forgotten, another artifact set); it is closed, not retried."""


@dataclass(frozen=True)
class PreparedRound:
    """A round with everything that its steps need."""

    opened: OpenedRound
    folder: Path
    artifact_set: ArtifactSet
    engine: Engine
    start: TrainingState

    def run(self, listener: Listener) -> RoundEnd:
        """Train the fold models and then the candidate, each from where it was left."""
        taken = 0
        for number, plan in enumerate(fold_plans(self.plan)):
            folder = fold_folder(self.folder, number)
            durable.make_folder(folder)
            data = self.data.only(kept_places(self.plan, number))
            if run_round(plan, folder, self.engine, data, self.start, _after(taken, listener)) is RoundEnd.STOPPED:
                return RoundEnd.STOPPED
            taken += plan.steps
        return run_round(self.plan, self.folder, self.engine, self.data, self.start, _after(taken, listener))

    def close(self) -> None:
        self.opened.close()

    @property
    def plan(self) -> RoundPlan:
        return self.opened.plan

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs that may be predicted after this round."""
        return self.plan.classes or self.artifact_set.manifest.classes

    @property
    def data(self) -> RoundData:
        return self.opened.data

    @property
    def step(self) -> int:
        """How many steps of all models are on disk."""
        return read_progress(self.folder, self.plan).step

    def compare(
        self,
        before: bytes,
        after: Sequence[bytes],
        views: Iterable[NDArray[np.generic]],
        labels: NDArray[np.int64],
    ) -> list[Comparison]:
        """Compare the network `before` with each of those `after` on preprocessed inputs."""
        manifest, threads = self.artifact_set.manifest, self.plan.threads
        said = ask([before, *after], views, labels, manifest=manifest, threads=threads, classes=len(self.classes))
        return [Comparison(said[0], one) for one in said[1:]]

    def samples(self, places: Sequence[int], view: int = 0) -> NDArray[np.generic]:
        """Return the owner's samples at these places of the plan in this view, preprocessed."""
        chosen = np.array(places, np.int64)
        return self.data.inputs.rows(chosen, np.full_like(chosen, view))

    def unplanned_samples(self, ids: Sequence[str], stored: NDArray[np.generic], view: int) -> NDArray[np.generic]:
        """Return samples that are not in the plan in this view, preprocessed."""
        how, seed = self.plan.augmentation, self.plan.view_seed
        if view and len(ids):
            assert how is not None, "a plan with views says how they are made"
            stored = np.stack([view_of(one, name, view, how, seed) for one, name in zip(stored, ids, strict=True)])
        return Preprocessing.of(self.artifact_set, threads=self.plan.threads)(stored)

    def compare_on_anchor(self, before: bytes, after: Sequence[bytes]) -> list[Comparison]:
        inputs, labels = self.artifact_set.gate_anchor()
        values = Preprocessing.of(self.artifact_set, threads=self.plan.threads)(inputs)
        return self.compare(before, after, [values], labels.astype(np.int64))

    def fold_parameters(self, number: int) -> Mapping[str, Floats]:
        """Return what fold model `number` learned. Raises `StoreDamaged` when its last checkpoint is gone."""
        folder = CheckpointFolder(fold_folder(self.folder, number) / "checkpoints", every=self.plan.checkpoint_every)
        checkpoint, _ = folder.newest()
        if checkpoint is None or checkpoint.state.step != self.plan.fold_steps[number]:
            raise StoreDamaged(f"Fold model {number} of round {self.plan.number} is damaged; it is trained again.")
        return checkpoint.state.parameters


@dataclass(frozen=True)
class Candidate:
    """One way to serve what a round learned."""

    blend: float
    parameters: Mapping[str, Floats]
    model: bytes
    remembers: int

    @classmethod
    def of(
        cls, prepared: PreparedRound, learned: Mapping[str, Floats], blend: float, *, unseen: Sequence[int] = ()
    ) -> "Candidate":
        """Return the network between the start and what was `learned`, with a memory of all samples but the `unseen`.

        Weights on the line between a network and what it was fine-tuned to lose less of what it knew
        (Wortsman et al., arXiv:2109.01903).
        """
        plan, start = prepared.plan, prepared.start.parameters
        parameters = {name: _between(start[name], value, blend) for name, value in learned.items()}
        model = _network(plan, prepared, parameters, unseen=unseen)
        if not plan.memory:
            return cls(blend, parameters, model, 0)
        remembered = worth_remembering(plan.labels, unseen=unseen)
        remembering, held = with_memory(
            model,
            prepared.samples(remembered),
            prepared.data.labels[remembered],
            manifest=prepared.artifact_set.manifest,
            threads=plan.threads,
        )
        return cls(blend, parameters, remembering, held)


def _between(start: Floats, learned: Floats, share: float) -> Floats:
    if share in (0.0, 1.0):
        return learned if share else start
    return start + np.float32(share) * (learned - start)


def _after(taken: int, listener: Listener) -> Listener:
    """Return `listener` hearing steps counted on from the `taken` ones of the models before."""
    return replace(listener, on_step=lambda step, loss: listener.on_step(taken + step, loss))


class RoundWorkshop:
    """Works on one round's folder."""

    def __init__(self, state: StateDir, number: int) -> None:
        self._state = state
        self._number = number
        self._folder = round_folder(state, number)
        self._models = ModelStore(state)

    @property
    def is_closed(self) -> bool:
        """Whether the round has its outcome: the owner forgot one of its samples while it ran, say."""
        return read_outcome(self._folder) is not None

    def verdict(self) -> Verdict | None:
        """Return the verdict that is there already; one that does not parse is made again."""
        try:
            return read_verdict(self._folder)
        except StoreDamaged:
            (self._folder / VERDICT_NAME).unlink(missing_ok=True)
            return None

    def plan(self) -> RoundPlan:
        """Read the plan; a round whose plan is damaged is closed, because nothing says what it was to do."""
        try:
            return read_plan(self._folder)
        except StoreDamaged as error:
            self._models.close_round(self._number, "failed", str(error))
            raise

    def prepare(
        self, plan: RoundPlan, open_engine: OpenEngine, *, on_decision: Callable[[str], None] = lambda text: None
    ) -> PreparedRound:
        """Gather what the steps need. Raises `Abandoned` when part of it is gone for good."""
        artifact_set = open_set(self._state.artifact_set)
        if artifact_set.sha256 != plan.artifact_sha256:
            raise Abandoned("Another artifact set was installed in mid-round.")
        parent = self._parent(plan)
        with SampleStore(self._state.samples_db) as store:
            self._require_samples(plan, store)

        def freeze(decided: RoundPlan, reason: str) -> None:
            if self.is_closed:
                raise Abandoned("It was closed meanwhile.")
            write_plan(self._state, decided)
            if reason:
                on_decision(reason)

        opened = open_round_data(plan, artifact_set, self._state.samples_db, on_decision=freeze)
        plan = opened.plan
        optimizer = artifact_set.manifest.optimizer
        engine = open_engine(
            artifact_set,
            name=plan.engine,
            variant=plan.variant,
            threads=plan.threads,
            optimizer=chosen_optimizer(optimizer, weight_decay=plan.weight_decay, clip_norm=plan.clip_norm),
            micro_batch=plan.micro_batch,
        )
        return PreparedRound(opened, self._folder, artifact_set, engine, _start_of(parent, artifact_set))

    def _parent(self, plan: RoundPlan) -> VerifiedModel:
        try:
            return read_model(generation_folder(self._state.models, plan.start_generation))
        except StoreDamaged as error:
            raise Abandoned(f"The model that it started from is gone: {error}") from error

    def _require_samples(self, plan: RoundPlan, store: SampleStore) -> None:
        if not set(plan.sample_ids) <= set(store.training_ids()):
            raise Abandoned("A sample that it was training on has been forgotten.")

    def judge(self, plan: RoundPlan, prepared: PreparedRound) -> Verdict:
        """Export the candidates, put them before the gate, and leave the chosen one on disk: the verdict last.

        Raises `Abandoned` when a sample was forgotten meanwhile.
        """
        serving = self._models.current()
        learned = prepared.engine.state().parameters
        candidates = [Candidate.of(prepared, learned, blend) for blend in plan.blends]
        chosen, verdict = judge(
            self._contenders(prepared, serving, candidates),
            plan.gate,
            round_number=plan.number,
            generation_before=serving.card.generation,
            classes=prepared.classes,
        )
        self._write_candidate(plan, prepared, candidates[chosen])
        write_verdict(self._folder, verdict)
        return verdict

    def _contenders(
        self, prepared: PreparedRound, serving: VerifiedModel, candidates: Sequence[Candidate]
    ) -> list[Contender]:
        """Ask each candidate, or who answers for it, about every sample that may judge, and about the anchor set."""
        plan, models = prepared.plan, [candidate.model for candidate in candidates]
        ids, stored, labels = self._holdout(prepared)
        # A sample is one piece of evidence in however many views it is seen, and a less noisy one in several; as many
        # samples as judge alone are enough as they are.
        views = range(plan.views if len(labels) < plan.gate.enough_holdout else 1)
        held_out = (prepared.unplanned_samples(ids, stored, view) for view in views)
        evidence = zip(
            prepared.compare(serving.model, models, held_out, labels),
            self._out_of_fold(prepared, serving, views),
            prepared.compare_on_anchor(serving.model, models),
            strict=True,
        )
        return [
            Contender(
                Evidence(holdout, out_of_fold),
                anchor,
                makeup(candidate.blend, candidate.remembers, _precision(plan)),
                is_memory_alone=candidate.blend == 0 and not plan.int8,
            )
            for candidate, (holdout, out_of_fold, anchor) in zip(candidates, evidence, strict=True)
        ]

    def _holdout(self, prepared: PreparedRound) -> tuple[list[str], NDArray[np.generic], NDArray[np.int64]]:
        with SampleStore(self._state.samples_db) as store:
            self._require_samples(prepared.plan, store)
            ids = store.holdout_ids(labelled=True)
            inputs, labels = store.load(ids)
        # A class that was named since the round began is for the next one.
        judging = np.flatnonzero(labels < len(prepared.classes))
        return [ids[place] for place in judging], inputs[judging], labels[judging]

    def _out_of_fold(
        self, prepared: PreparedRound, serving: VerifiedModel, views: range
    ) -> list[Comparison] | list[None]:
        """Compare on every sample of a fold that the serving model has not seen either, one comparison a candidate.

        What answers for a sample is made as the candidate is, without the sample's fold. `None` without fold models.
        """
        plan, seen = prepared.plan, frozenset(serving.card.sample_ids)
        compared: list[Comparison] = []
        for number in range(len(plan.fold_steps)):
            left_out, learned = left_out_places(plan, number), prepared.fold_parameters(number)
            places = [place for place in left_out if plan.sample_ids[place] not in seen]
            answering = [Candidate.of(prepared, learned, blend, unseen=left_out).model for blend in plan.blends]
            in_views = (prepared.samples(places, view) for view in views)
            lot = prepared.compare(serving.model, answering, in_views, prepared.data.labels[places])
            compared = [one.joined(more) for one, more in zip(compared, lot, strict=True)] if compared else lot
        return compared or [None] * len(plan.blends)

    def _write_candidate(self, plan: RoundPlan, prepared: PreparedRound, candidate: Candidate) -> None:
        from safetensors.numpy import save

        parent = self._parent(plan).card
        parameters = save(dict(candidate.parameters))
        card = ModelCard(
            generation=-1,  # numbered when it is promoted
            sha256=hashlib.sha256(candidate.model).hexdigest(),
            parameters_sha256=hashlib.sha256(parameters).hexdigest(),
            artifact_sha256=prepared.artifact_set.sha256,
            created=plan.created,
            round=plan.number,
            parent=parent.generation,
            probation_hours=plan.gate.probation_hours,
            classes=plan.classes,
            precision=_precision(plan),
            blend=candidate.blend,
            remembers=candidate.remembers,
            sample_ids=tuple(sorted({*parent.sample_ids, *plan.sample_ids})),
        )
        durable.make_folder(self._folder / CANDIDATE_NAME)
        write_model(self._folder / CANDIDATE_NAME, card, candidate.model, parameters)

    def abandon(self, reason: str) -> None:
        self._models.close_round(self._number, "abandoned", reason, lost_its_ground=True)

    def fail(self, plan: RoundPlan, reason: str) -> None:
        """Close the round as failed; its samples are no longer new, or it would be begun again for ever."""
        with SampleStore(self._state.samples_db) as store:
            mark_trained(store, plan)
        self._models.close_round(self._number, "failed", reason)

    def clear_if_closed(self) -> RoundOutcome | None:
        """Remove what was written after somebody closed the round; return its outcome then."""
        outcome = read_outcome(self._folder)
        if outcome is not None:
            tidy_round(self._state, self._number)
        return outcome


def _precision(plan: RoundPlan) -> Literal["fp32", "int8"]:
    return "int8" if plan.int8 else "fp32"


def _network(
    plan: RoundPlan,
    prepared: PreparedRound,
    parameters: Mapping[str, Floats],
    *,
    unseen: Sequence[int] = (),
) -> bytes:
    """Return the network with these parameters in the form that would serve.

    An int8 one is calibrated on what it was trained on, the owner's samples and the anchor set, without the `unseen`.
    """
    model = export_model(prepared.artifact_set, parameters)
    if not plan.int8:
        return model
    data = prepared.data
    places = np.setdiff1d(np.arange(len(data.labels)), np.array(unseen, np.int64))
    chosen = places[:: -(-len(places) // _CALIBRATION_SAMPLES)]
    values = normalise(data.inputs.rows(chosen, np.zeros_like(chosen)), data.input_spec)
    return quantise(model, values, threads=plan.threads)


def _start_of(parent: VerifiedModel, artifact_set: ArtifactSet) -> TrainingState:
    from safetensors.numpy import load

    return start_state(load((parent.folder / PARAMETERS_NAME).read_bytes()), artifact_set.manifest.optimizer)
