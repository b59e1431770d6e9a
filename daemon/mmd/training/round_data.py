"""What does a round train on, and how does it hear the Mentor? Opens a plan's samples, its cache and its variant."""

import hashlib
import resource
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mmd.artifact.load import ArtifactSet
from mmd.artifact.preprocess import Preprocessing
from mmd.samples.row_cache import CACHE_NAME, RowCache, entry_bytes
from mmd.samples.store import SampleStore
from mmd.training.mentor_outputs import (
    CachedMentor,
    MentorOutputs,
    SilentMentor,
    has_mentor,
    output_shapes,
    target_bytes,
)
from mmd.training.plan import RoundPlan
from mmd.training.round import RoundData
from mmd.training.rows import GuardedCache, Row, StreamedInputs, all_rows
from mmd.training.variant import Costs, choose_variant

_MIB = 2**20
_MEASURED_ROWS = 16
_RUNTIME_BYTES = 64 * _MIB
"""What the trainer takes beside a step."""


@dataclass(frozen=True)
class OpenedRound:
    """The data of a round, open until `close`."""

    plan: RoundPlan
    """With its variant decided."""
    data: RoundData
    closing: ExitStack

    def close(self) -> None:
        self.closing.close()


def open_round_data(
    plan: RoundPlan, artifact_set: ArtifactSet, samples_db: Path, *, on_decision: Callable[[RoundPlan, str], None]
) -> OpenedRound:
    """Open what `plan` trains on; ask the Mentor now about all that will be kept.

    A plan that leaves its variant open is decided here: `on_decision` writes it down before anything depends on it.
    """
    with ExitStack() as closing:
        store = closing.enter_context(SampleStore(samples_db))
        guarded = None
        if plan.cache_mib and _has_work(plan, artifact_set):
            most = plan.cache_mib * _MIB
            path = samples_db.with_name(CACHE_NAME)
            cache = closing.enter_context(RowCache(path, _scope(plan, artifact_set), most_bytes=most))
            guarded = GuardedCache(cache, store)
        opening = _Opening(plan, artifact_set, store, guarded)
        if plan.variant == "auto":
            plan, reason = opening.decided()
            on_decision(plan, reason)
        data = opening.data(plan)
        return OpenedRound(plan, data, closing.pop_all())


class _Opening:
    """A round on its way from a plan to its data."""

    def __init__(
        self, plan: RoundPlan, artifact_set: ArtifactSet, store: SampleStore, guarded: GuardedCache | None
    ) -> None:
        self._plan = plan
        self._set = artifact_set
        replay_inputs, replay_labels = artifact_set.replay_anchor()
        if not plan.replay_per_batch:
            replay_inputs, replay_labels = replay_inputs[:0], replay_labels[:0]
        self._replay_labels = replay_labels
        self._inputs = StreamedInputs(
            plan, store, replay_inputs, guarded, Preprocessing.of(artifact_set, threads=plan.threads)
        )
        self._mentor = CachedMentor(artifact_set, self._inputs, plan.sample_ids, guarded, threads=plan.threads)

    @property
    def _rows(self) -> list[Row]:
        return list(all_rows(len(self._plan.sample_ids), self._plan.views, len(self._replay_labels)))

    def decided(self) -> tuple[RoundPlan, str]:
        """Return the plan with its variant, and why it is that."""
        plan, manifest = self._plan, self._set.manifest
        if not _is_asked(plan, self._set):
            told = "" if plan.listens_to_mentor else "The Mentor is not asked: labels alone teach this round."
            return msgspec.structs.replace(plan, variant="cached"), told
        rows = self._rows
        does_fit = self._cache_bytes() <= plan.cache_mib * _MIB
        asking, reading = self._mentor.measured(rows[:_MEASURED_ROWS]) if does_fit else (0.0, 0.0)
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        costs = Costs(
            asking_seconds=asking,
            reading_seconds=reading,
            unasked=self._mentor.missing(rows) if does_fit else len(rows),
            drawn=plan.steps_in_all * plan.batch_size,
            cache_bytes=self._cache_bytes(),
            room_bytes=plan.cache_mib * _MIB,
            fused_bytes=manifest.memory_estimate_bytes.get(f"{plan.engine}.fused", 0) + _RUNTIME_BYTES,
            memory_bytes=float("inf") if limit == resource.RLIM_INFINITY else limit,
        )
        variant, reason = choose_variant(costs)
        return msgspec.structs.replace(plan, variant=variant), reason

    def data(self, plan: RoundPlan) -> RoundData:
        return RoundData(
            inputs=self._inputs,
            labels=np.concatenate([plan.labels, self._replay_labels]).astype(np.int64),
            own=len(plan.sample_ids),
            mentor=self._speaker(plan),
            input_spec=self._set.manifest.input,
            dropout=self._set.manifest.dropout,
        )

    def _speaker(self, plan: RoundPlan) -> MentorOutputs:
        if plan.variant == "fused":
            return SilentMentor({})
        if not _is_asked(plan, self._set):
            return SilentMentor(output_shapes(self._set.manifest))
        if self._cache_bytes() <= plan.cache_mib * _MIB:
            # All at once, and before the engine takes its memory.
            self._mentor.ask_all(self._rows)
        return self._mentor

    def _cache_bytes(self) -> int:
        rows = self._rows
        worked = sum(self._inputs.takes_work(view) for _, view in rows)
        inputs = worked * entry_bytes(self._inputs.row_bytes)
        return inputs + len(rows) * entry_bytes(target_bytes(self._set.manifest))


def _has_work(plan: RoundPlan, artifact_set: ArtifactSet) -> bool:
    """Return whether there is anything to keep."""
    manifest = artifact_set.manifest
    return plan.views > 1 or manifest.graphs.preprocess in manifest.files or _is_asked(plan, artifact_set)


def _is_asked(plan: RoundPlan, artifact_set: ArtifactSet) -> bool:
    return plan.listens_to_mentor and has_mentor(artifact_set.manifest)


def _scope(plan: RoundPlan, artifact_set: ArtifactSet) -> str:
    views = hashlib.sha256(msgspec.json.encode((plan.augmentation, plan.view_seed))).hexdigest()
    return f"set {artifact_set.sha256} views {views}"
