"""How does an open round become a judged candidate? Everything around the steps: samples, Mentor, export, gate."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmd import durable
from mmd.artifact.card import PARAMETERS_NAME, ModelCard, Verdict, VerifiedModel, generation_folder, read_model
from mmd.artifact.export import export_model
from mmd.artifact.int8 import quantise
from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.preprocess import Preprocessing
from mmd.errors import StoreDamaged
from mmd.layout import StateDir
from mmd.promotion.closing import tidy_round
from mmd.promotion.evaluate import compare
from mmd.promotion.gate import Comparison, Evidence, judge
from mmd.promotion.models import ModelStore, write_model
from mmd.promotion.outcome import CANDIDATE_NAME, VERDICT_NAME, RoundOutcome, read_outcome, read_verdict, write_verdict
from mmd.samples.store import SampleStore
from mmd.supervisor.rounds import mark_trained
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
    def data(self) -> RoundData:
        return self.opened.data

    @property
    def step(self) -> int:
        """How many steps of all models are on disk."""
        return read_progress(self.folder, self.plan).step

    def fold_parameters(self, number: int) -> Mapping[str, Floats]:
        """Return what fold model `number` learned. Raises `StoreDamaged` when its last checkpoint is gone."""
        folder = CheckpointFolder(fold_folder(self.folder, number) / "checkpoints", every=self.plan.checkpoint_every)
        checkpoint, _ = folder.newest()
        if checkpoint is None or checkpoint.state.step != self.plan.fold_steps[number]:
            raise StoreDamaged(f"Fold model {number} of round {self.plan.number} is damaged; it is trained again.")
        return checkpoint.state.parameters


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
        self, plan: RoundPlan, open_engine: OpenEngine, *, on_notice: Callable[[str], None] = lambda text: None
    ) -> PreparedRound:
        """Gather what the steps need. Raises `Abandoned` when part of it is gone for good."""
        artifact_set = open_set(self._state.artifact_set)
        if artifact_set.sha256 != plan.artifact_sha256:
            raise Abandoned("Another artifact set was installed in mid-round.")
        parent = self._parent(plan)
        with SampleStore(self._state.samples_db) as store:
            self._require_samples(plan, store)

        def on_decision(decided: RoundPlan, reason: str) -> None:
            write_plan(self._state, decided)
            if reason:
                on_notice(reason)

        opened = open_round_data(plan, artifact_set, self._state.samples_db, on_decision=on_decision)
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
        """Export the candidate, put it before the gate, and leave both on disk: the verdict last.

        Raises `Abandoned` when a sample was forgotten meanwhile.
        """
        serving = self._models.current()
        candidate = _network(plan, prepared, prepared.engine.state().parameters)
        verdict = self._judge(plan, prepared, serving, candidate)
        self._write_candidate(plan, prepared, candidate)
        write_verdict(self._folder, verdict)
        return verdict

    def _judge(self, plan: RoundPlan, prepared: PreparedRound, serving: VerifiedModel, candidate: bytes) -> Verdict:
        manifest = prepared.artifact_set.manifest
        classes = plan.classes or manifest.classes
        with SampleStore(self._state.samples_db) as store:
            self._require_samples(plan, store)
            holdout_inputs, holdout_labels = store.load(store.holdout_ids(labelled=True))
        # A class that was named since the round began is for the next one.
        is_judged = holdout_labels < len(classes)
        holdout_inputs, holdout_labels = holdout_inputs[is_judged], holdout_labels[is_judged]
        anchor_inputs, anchor_labels = prepared.artifact_set.gate_anchor()
        values = Preprocessing.of(prepared.artifact_set, threads=plan.threads)
        holdout, anchor = (
            compare(
                serving.model,
                candidate,
                values(inputs),
                labels,
                manifest=manifest,
                threads=plan.threads,
                classes=len(classes),
            )
            for inputs, labels in ((holdout_inputs, holdout_labels), (anchor_inputs, anchor_labels.astype(np.int64)))
        )
        return judge(
            Evidence(holdout, self._out_of_fold(plan, prepared, serving)),
            anchor,
            plan.gate,
            round_number=plan.number,
            generation_before=serving.card.generation,
            classes=classes,
        )

    def _out_of_fold(self, plan: RoundPlan, prepared: PreparedRound, serving: VerifiedModel) -> Comparison | None:
        """Compare on every sample of a fold that the serving model has not seen either; `None` without fold models."""
        seen = frozenset(serving.card.sample_ids)
        compared: Comparison | None = None
        for number in range(len(plan.fold_steps)):
            left_out = left_out_places(plan, number)
            places = np.array([place for place in left_out if plan.sample_ids[place] not in seen], np.int64)
            model = _network(plan, prepared, prepared.fold_parameters(number), unseen=left_out)
            lot = compare(
                serving.model,
                model,
                prepared.data.inputs.rows(places, np.zeros_like(places)),
                prepared.data.labels[places],
                manifest=prepared.artifact_set.manifest,
                threads=plan.threads,
                classes=len(plan.classes) or None,
            )
            compared = lot if compared is None else compared.joined(lot)
        return compared

    def _write_candidate(self, plan: RoundPlan, prepared: PreparedRound, model: bytes) -> None:
        from safetensors.numpy import save

        parent = self._parent(plan).card
        parameters = save(dict(prepared.engine.state().parameters))
        card = ModelCard(
            generation=-1,  # numbered when it is promoted
            sha256=hashlib.sha256(model).hexdigest(),
            parameters_sha256=hashlib.sha256(parameters).hexdigest(),
            artifact_sha256=prepared.artifact_set.sha256,
            created=plan.created,
            round=plan.number,
            parent=parent.generation,
            probation_hours=plan.gate.probation_hours,
            classes=plan.classes,
            precision="int8" if plan.int8 else "fp32",
            sample_ids=tuple(sorted({*parent.sample_ids, *plan.sample_ids})),
        )
        durable.make_folder(self._folder / CANDIDATE_NAME)
        write_model(self._folder / CANDIDATE_NAME, card, model, parameters)

    def abandon(self, reason: str) -> None:
        self._models.close_round(self._number, "abandoned", reason)

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
