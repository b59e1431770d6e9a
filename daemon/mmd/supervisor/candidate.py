"""What could serve of what a round learned? An open round with everything its steps need, and its candidates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmd import durable
from mmd.artifact.export import export_model
from mmd.artifact.int8 import quantise
from mmd.artifact.load import ArtifactSet, normalise
from mmd.artifact.preprocess import Preprocessing
from mmd.errors import StoreDamaged
from mmd.promotion.answers import Comparison
from mmd.promotion.evaluate import ask
from mmd.promotion.memory import with_memory, worth_remembering
from mmd.training.augment import view_of
from mmd.training.checkpoint import CheckpointFolder
from mmd.training.engine import Engine, Floats, TrainingState
from mmd.training.folds import fold_plans, kept_places
from mmd.training.plan import RoundPlan, fold_folder, read_progress
from mmd.training.round import Listener, RoundData, RoundEnd, run_round
from mmd.training.round_data import OpenedRound

_CALIBRATION_SAMPLES = 256


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


def _after(taken: int, listener: Listener) -> Listener:
    """Return `listener` hearing steps counted on from the `taken` ones of the models before."""
    return replace(listener, on_step=lambda step, loss: listener.on_step(taken + step, loss))


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


def precision(plan: RoundPlan) -> Literal["fp32", "int8"]:
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
