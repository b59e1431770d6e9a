"""Which models are there, which one serves, and how does a candidate become it?

Every change is one rename or one link, in an order that lets the next start finish what a crash interrupted:
the generation's folder first, then `current`, then the round's `done.json`. Needs neither numpy nor onnxruntime.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from mmd import durable
from mmd.artifact.card import (
    CARD_NAME,
    MODEL_NAME,
    PARAMETERS_NAME,
    WITHDRAWN_NAME,
    ModelCard,
    Verdict,
    VerifiedModel,
    generation_folder,
    generations,
    is_withdrawn,
    linked_generation,
    newest_whole_model,
    read_card,
    read_model,
)
from mmd.artifact.load import ArtifactSet
from mmd.errors import StoreDamaged, UsageError
from mmd.layout import StateDir
from mmd.promotion.closing import (
    Unjudged,
    close_unjudged,
    forget_in_rounds,
    promoted_generations,
    round_folder,
    thin_old_rounds,
    tidy_round,
)
from mmd.promotion.outcome import (
    CANDIDATE_NAME,
    VERDICT_NAME,
    Ending,
    RoundOutcome,
    read_outcome,
    read_verdict,
    write_outcome,
)

_KEPT_GENERATIONS = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEntry:
    """One line of `mmd models`."""

    generation: int
    phase: str
    """shipped | probation | confirmed | withdrawn | damaged"""
    serves: bool
    card: ModelCard | None


class ModelStore:
    """The models of one state folder."""

    def __init__(self, state: StateDir, *, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._models = state.models
        self._now = now

    def create_shipped(self, artifact_set: ArtifactSet) -> ModelCard:
        """Install generation 0 from the artifact set, or repair it; nothing happens when it is there and whole.

        Raises `UsageError` when the state folder holds the models of another set.
        """
        folder = generation_folder(self._models, 0)
        card = self._shipped(folder, artifact_set)
        if card is None:
            if folder.is_dir():
                durable.remove_folder(folder)
            graphs = artifact_set.manifest.graphs
            model = artifact_set.path(graphs.inference).read_bytes()
            parameters = artifact_set.path(graphs.parameters).read_bytes()
            card = ModelCard(
                generation=0,
                sha256=hashlib.sha256(model).hexdigest(),
                parameters_sha256=hashlib.sha256(parameters).hexdigest(),
                artifact_sha256=artifact_set.sha256,
                created=self._now(),
            )
            self._install(card, model, parameters)
        if linked_generation(self._models) is None:
            self._serve(0)
        return card

    def _shipped(self, folder: Path, artifact_set: ArtifactSet) -> ModelCard | None:
        """Return the card of a whole generation 0 of this set; `None` when it is missing or damaged."""
        try:
            card = read_model(folder).card
        except StoreDamaged:
            return None
        if card.artifact_sha256 != artifact_set.sha256:
            raise UsageError(
                f"{self._state.root} already holds the models of another artifact set; "
                "choose another --state-dir, or replace the set with `mmd init --force`."
            )
        return card

    def current(self) -> VerifiedModel:
        """Return the serving model, verified; when `current` names a damaged one, the newest that verifies.

        Raises `StoreDamaged` when none does.
        """
        model, complaints = newest_whole_model(self._models)
        for complaint in complaints:
            _warn_once(self._models, complaint)
        if model is None:
            raise StoreDamaged(
                f"No model in {self._models} verifies: {' '.join(complaints) or 'there is none.'} Run `mmd init` again."
            )
        return model

    def list(self) -> list[ModelEntry]:
        """Return every generation, oldest first."""
        try:
            serving = self.current().card.generation
        except StoreDamaged:
            serving = -1
        return [self._entry(number, serves=number == serving) for number in generations(self._models)]

    def _entry(self, generation: int, *, serves: bool) -> ModelEntry:
        folder = generation_folder(self._models, generation)
        try:
            card = read_model(folder).card
        except StoreDamaged:
            return ModelEntry(generation, "damaged", serves, None)
        phase = "withdrawn" if is_withdrawn(folder) else card.phase(self._now())
        return ModelEntry(generation, phase, serves, card)

    def rollback(self, to: int | None = None) -> tuple[ModelCard, ModelCard]:
        """Serve an earlier generation again; return the cards (left, now serving).

        `to=None` is the newest older one that was not itself rolled back from. The generation that is left is
        withdrawn: it never serves again unless the owner names it. Raises `UsageError` when there is nothing to go to.
        """
        left = self.current().card
        target = self._rollback_target(left.generation) if to is None else to
        if target == left.generation:
            raise UsageError(f"Generation {target} is serving already; `mmd models` lists the others.")
        if target not in generations(self._models):
            raise UsageError(f"There is no generation {target}; `mmd models` lists those that there are.")
        chosen = read_model(generation_folder(self._models, target)).card
        if target < left.generation:
            durable.write_bytes(generation_folder(self._models, left.generation) / WITHDRAWN_NAME, b"")
        self._serve(target)
        (generation_folder(self._models, target) / WITHDRAWN_NAME).unlink(missing_ok=True)
        log.info("rolled back from generation=%d to generation=%d", left.generation, target)
        return left, chosen

    def _rollback_target(self, serving: int) -> int:
        newer = [number for number in generations(self._models) if number >= serving]
        target = self._newest_without(newer)
        if target is None:
            raise UsageError(f"Generation {serving} serves and there is none before it to go back to.")
        return target

    def _newest_without(self, excluded: Collection[int]) -> int | None:
        """Return the newest whole generation that was not withdrawn and is not `excluded`."""
        for number in reversed(generations(self._models)):
            folder = generation_folder(self._models, number)
            if number in excluded or is_withdrawn(folder):
                continue
            try:
                read_model(folder)
            except StoreDamaged as error:
                _warn_once(self._models, str(error))
                continue
            return number
        return None

    def finish_round(self, number: int, *, stored: Collection[str] | None = None) -> RoundOutcome:
        """Act on the verdict of round `number` and close it; doing it again changes nothing.

        `stored` names every sample that still exists: a candidate that saw another one is not promoted. Raises
        `UsageError` when the round has no verdict yet, `StoreDamaged` when verdict or candidate do not verify: both are
        removed then, and the trainer makes them anew from the round's last checkpoint.
        """
        folder = round_folder(self._state, number)
        self._sweep()
        outcome = read_outcome(folder)
        if outcome is None:
            try:
                outcome = self._close(folder, number, stored)
            except StoreDamaged:
                (folder / VERDICT_NAME).unlink(missing_ok=True)
                shutil.rmtree(folder / CANDIDATE_NAME, ignore_errors=True)
                raise
            write_outcome(folder, outcome)
            log.info("round=%d %s: %s", number, outcome.outcome, outcome.reason)
        tidy_round(self._state, number)
        thin_old_rounds(self._state)
        if outcome.outcome == "promoted":
            self._retire()
        return outcome

    def _close(self, folder: Path, number: int, stored: Collection[str] | None) -> RoundOutcome:
        verdict = read_verdict(folder)
        if verdict is None:
            raise UsageError(f"Round {number} has no verdict yet; let it finish first (`mmd train`).")
        if not verdict.promoted:
            return self._outcome(number, "rejected", verdict.reason)
        installed = self._made_by_round(number)
        if installed is not None and is_withdrawn(generation_folder(self._models, installed)):
            return self._outcome(number, "promoted", verdict.reason, installed)
        if installed is None:
            candidate = read_model(folder / CANDIDATE_NAME)
            obstacle = self._obstacle(candidate.card, verdict, stored)
            if obstacle is not None:
                return obstacle
            installed = self._next_generation()
            parameters = (folder / CANDIDATE_NAME / PARAMETERS_NAME).read_bytes()
            card = msgspec.structs.replace(
                candidate.card, generation=installed, round=number, created=self._now(), verdict=verdict
            )
            self._install(card, candidate.model, parameters)
        self._serve(installed)
        return self._outcome(number, "promoted", verdict.reason, installed)

    def _obstacle(self, card: ModelCard, verdict: Verdict, stored: Collection[str] | None) -> RoundOutcome | None:
        if stored is not None and not set(card.sample_ids) <= set(stored):
            reason = "A sample that it was trained on has been forgotten since."
            forgotten = self._outcome(verdict.round, "abandoned", reason)
            return msgspec.structs.replace(forgotten, lost_its_ground=True)
        if self.current().card.generation != verdict.generation_before:
            return self._outcome(
                verdict.round,
                "rejected",
                f"Generation {verdict.generation_before} no longer serves; it was judged by it.",
            )
        return None

    def _outcome(self, number: int, outcome: Ending, reason: str, generation: int | None = None) -> RoundOutcome:
        return RoundOutcome(round=number, outcome=outcome, reason=reason, finished=self._now(), generation=generation)

    def close_round(
        self, number: int, outcome: Unjudged, reason: str, *, lost_its_ground: bool = False
    ) -> RoundOutcome:
        """Close round `number` without a verdict."""
        now = self._now()
        return close_unjudged(self._state, number, outcome, reason, now=now, lost_its_ground=lost_its_ground)

    def drop_generations_that_saw(self, sample_ids: Iterable[str]) -> Sequence[int]:
        """Remove every model and plan with a trace of these samples, and abandon the open round that has one.

        `current` moves to the newest model without a trace before any folder goes. Returns the dropped generations.
        """
        forgotten = set(sample_ids)
        self._sweep()
        forget_in_rounds(self._state, forgotten, now=self._now())
        doomed = [number for number in generations(self._models) if self._saw(number, forgotten)]
        if linked_generation(self._models) in doomed:
            untouched = self._newest_without(doomed)
            if untouched is None:
                raise StoreDamaged(
                    f"No model in {self._models} without a trace of the forgotten samples verifies; "
                    "run `mmd init` again, and then forget them."
                )
            self._serve(untouched)
        for number in doomed:
            durable.remove_folder(generation_folder(self._models, number))
            log.info("dropped generation=%d reason=sample_forgotten", number)
        return doomed

    def _saw(self, generation: int, forgotten: set[str]) -> bool:
        if generation == 0:
            return False  # it comes with the artifact set
        try:
            return bool(forgotten.intersection(read_card(generation_folder(self._models, generation)).sample_ids))
        except StoreDamaged:
            return True  # what it saw can no longer be known, and it cannot serve anyway

    def _made_by_round(self, number: int) -> int | None:
        for generation in generations(self._models):
            try:
                card = read_card(generation_folder(self._models, generation))
            except StoreDamaged:
                continue
            if card.round == number:
                return generation
        return None

    def _next_generation(self) -> int:
        """Return a number that no model ever had, so that a reader can tell two models by it."""
        return max([*generations(self._models), *promoted_generations(self._state)], default=-1) + 1

    def _install(self, card: ModelCard, model: bytes, parameters: bytes) -> None:
        durable.make_folder(self._models)
        folder = generation_folder(self._models, card.generation)
        prepared = self._models / f".{folder.name}.tmp"
        shutil.rmtree(prepared, ignore_errors=True)
        prepared.mkdir()
        write_model(prepared, card, model, parameters)
        durable.install_folder(prepared, folder)

    def _serve(self, generation: int) -> None:
        durable.replace_link(self._models / "current", generation_folder(self._models, generation).name)
        log.info("serving generation=%d", generation)

    def _sweep(self) -> None:
        for leftover in self._models.glob(".gen-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _retire(self) -> None:
        """Remove old generations: all but the shipped, the serving, its parent, and the newest few."""
        current = self.current().card
        numbers = generations(self._models)
        kept = {0, current.generation, current.parent, *numbers[-_KEPT_GENERATIONS:]}
        for number in numbers:
            if number not in kept:
                durable.remove_folder(generation_folder(self._models, number))
                log.info("retired generation=%d", number)


@lru_cache(maxsize=64)
def _warn_once(models: Path, complaint: str) -> None:
    """Log `complaint`; a daemon that looks every second says it once."""
    log.warning("%s", complaint)


def write_model(folder: Path, card: ModelCard, model: bytes, parameters: bytes) -> None:
    """Fill the folder of a model; the card comes last, so a folder with a card has everything that it names."""
    durable.write_bytes(folder / MODEL_NAME, model)
    durable.write_bytes(folder / PARAMETERS_NAME, parameters)
    durable.write_bytes(folder / CARD_NAME, msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
