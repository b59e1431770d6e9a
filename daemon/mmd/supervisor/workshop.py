"""How does an open round become a judged candidate? Everything around the steps: samples, Mentor, export, gate."""

import hashlib
from collections.abc import Callable, Sequence

from mmd import durable
from mmd.artifact.card import PARAMETERS_NAME, ModelCard, Verdict, VerifiedModel, generation_folder, read_model
from mmd.artifact.load import ArtifactSet, open_set
from mmd.errors import StoreDamaged
from mmd.layout import StateDir, round_folder
from mmd.promotion.closing import tidy_round
from mmd.promotion.gate import judge
from mmd.promotion.models import ModelStore, write_model
from mmd.promotion.outcome import CANDIDATE_NAME, VERDICT_NAME, RoundOutcome, read_outcome, read_verdict, write_verdict
from mmd.samples.store import SampleStore
from mmd.supervisor.candidate import Candidate, PreparedRound, precision
from mmd.supervisor.evidence import Holdout, Lot, contenders
from mmd.supervisor.rounds import mark_trained
from mmd.training.engine import Engine, TrainingState
from mmd.training.feeds import start_state
from mmd.training.optimizer import chosen_optimizer
from mmd.training.plan import RoundPlan, read_plan, write_plan
from mmd.training.round_data import open_round_data

OpenEngine = Callable[..., Engine]
"""`mmd.training.engines.open_engine`, or a test's own."""


class Abandoned(Exception):
    """The round's ground is gone (a sample forgotten, another artifact set); it is closed, not retried."""


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
            contenders(prepared, serving, candidates, self._holdout(prepared)),
            plan.gate,
            round_number=plan.number,
            generation_before=serving.card.generation,
            classes=prepared.classes,
        )
        self._write_candidate(plan, prepared, candidates[chosen])
        write_verdict(self._folder, verdict)
        return verdict

    def _holdout(self, prepared: PreparedRound) -> Holdout:
        with SampleStore(self._state.samples_db) as store:
            self._require_samples(prepared.plan, store)
            ids = _judging(store, prepared.classes)

        def read(wanted: Sequence[str]) -> Lot:
            with SampleStore(self._state.samples_db) as store:
                # One may have been forgotten, or given another label, since the gate began.
                left = sorted({*wanted}.intersection(_judging(store, prepared.classes)))
                return Lot(left, *store.load(left))

        return Holdout(ids, read)

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
            precision=precision(plan),
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


def _judging(store: SampleStore, classes: Sequence[str]) -> list[str]:
    """Return the labelled held-out samples; a class that was named since the round began is for the next one."""
    known = frozenset(classes)
    return sorted(record.id for record in store.records(holdout=True) if record.label in known)


def _start_of(parent: VerifiedModel, artifact_set: ArtifactSet) -> TrainingState:
    from safetensors.numpy import load

    return start_state(load((parent.folder / PARAMETERS_NAME).read_bytes()), artifact_set.manifest.optimizer)
