"""How does a candidate become the serving model, and how does one go back?

Every change is one rename or one link, in an order that lets the next start finish what a crash interrupted:
the generation's folder first, then `current`, then the round's `done.json`. One process at a time changes which
model serves. Needs neither numpy nor onnxruntime.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from mmd import durable
from mmd.artifact.card import (
    PARAMETERS_NAME,
    WITHDRAWN_NAME,
    ModelCard,
    Verdict,
    generation_folder,
    generations,
    is_withdrawn,
    linked_generation,
    read_card,
    read_model,
)
from mmd.artifact.review import REVIEW_NAME, Review, read_review
from mmd.errors import StoreDamaged, UsageError
from mmd.layout import round_folder
from mmd.promotion.closing import (
    Unjudged,
    close_unjudged,
    forget_in_rounds,
    promoted_generations,
    thin_old_rounds,
    tidy_round,
)
from mmd.promotion.generations import Generations, ModelEntry, write_model
from mmd.promotion.outcome import (
    CANDIDATE_NAME,
    VERDICT_NAME,
    Ending,
    RoundOutcome,
    read_outcome,
    read_verdict,
    write_outcome,
)
from mmd.promotion.turns import in_turn

__all__ = ["ModelEntry", "ModelStore", "write_model"]

log = logging.getLogger(__name__)


class ModelStore(Generations):
    """The models of one state folder, with all that changes which one serves."""

    @in_turn
    def rollback(self, to: int | None = None) -> tuple[ModelCard, ModelCard]:
        """Serve an earlier generation again; return the cards (left, now serving).

        `to=None` is the newest older one that was not itself rolled back from. The generation that is left is
        withdrawn: it never serves again unless the owner names it. Raises `UsageError` when there is nothing to go to.
        """
        left = self.current().card
        target = self._rollback_target(left.generation) if to is None else to
        if target == left.generation:
            raise UsageError(f"Generation {target} is serving already; `mmd models` lists the others.")
        if target not in generations(self.models):
            raise UsageError(f"There is no generation {target}; `mmd models` lists those that there are.")
        chosen = read_model(generation_folder(self.models, target)).card
        if target < left.generation:
            self._withdraw(left.generation)
        self._rehabilitate(target)
        self.serve(target)
        log.info("rolled back from generation=%d to generation=%d", left.generation, target)
        return left, chosen

    def _withdraw(self, generation: int) -> None:
        durable.write_bytes(generation_folder(self.models, generation) / WITHDRAWN_NAME, b"")

    def _rehabilitate(self, generation: int) -> None:
        """Let `generation` serve again, and for good where its probation had failed: the owner chose it."""
        folder = generation_folder(self.models, generation)
        review = read_review(folder)
        if review is not None and review.state == "failed":
            chosen = f"The owner chose it all the same. {review.reason}"
            self.note_review(msgspec.structs.replace(review, state="passed", reason=chosen))
        (folder / WITHDRAWN_NAME).unlink(missing_ok=True)

    def note_review(self, review: Review) -> None:
        """Keep what the probation of a model has shown so far."""
        encoded = msgspec.json.format(msgspec.json.encode(review), indent=1) + b"\n"
        durable.write_bytes(generation_folder(self.models, review.generation) / REVIEW_NAME, encoded)

    @in_turn
    def settle(self) -> Review | None:
        """Take back the serving model when it failed its probation; return the review that it failed by.

        A crash anywhere is finished by doing it again. Nothing happens when there is no model to go back to.
        """
        serving = linked_generation(self.models)
        review = None if serving is None else read_review(generation_folder(self.models, serving))
        if serving is None or review is None or review.state != "failed":
            return None
        target = self.way_back(serving)
        if target is None:
            log.warning("generation=%d failed its probation and there is none to go back to", serving)
            return None
        self._withdraw(serving)
        self.serve(target)
        log.info("took back generation=%d, serving generation=%d: %s", serving, target, review.reason)
        return review

    def way_back(self, serving: int) -> int | None:
        """Return the generation that a rollback of `serving` goes to."""
        return self.newest_without([number for number in generations(self.models) if number >= serving])

    def _rollback_target(self, serving: int) -> int:
        target = self.way_back(serving)
        if target is None:
            raise UsageError(f"Generation {serving} serves and there is none before it to go back to.")
        return target

    @in_turn
    def finish_round(self, number: int, *, stored: Collection[str] | None = None) -> RoundOutcome:
        """Act on the verdict of round `number` and close it; doing it again changes nothing.

        `stored` names every sample that still exists: a candidate that saw another one is not promoted. Raises
        `UsageError` when the round has no verdict yet, `StoreDamaged` when verdict or candidate do not verify: both are
        removed then, and the trainer makes them anew from the round's last checkpoint.
        """
        folder = round_folder(self.state, number)
        self.sweep()
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
        tidy_round(self.state, number)
        thin_old_rounds(self.state)
        if outcome.outcome == "promoted":
            self.retire()
        return outcome

    def _close(self, folder: Path, number: int, stored: Collection[str] | None) -> RoundOutcome:
        verdict = read_verdict(folder)
        if verdict is None:
            raise UsageError(f"Round {number} has no verdict yet; let it finish first (`mmd train`).")
        if not verdict.promoted:
            return self._outcome(number, "rejected", verdict.reason)
        installed = self._made_by_round(number)
        if installed is not None and is_withdrawn(generation_folder(self.models, installed)):
            return self._outcome(number, "promoted", verdict.reason, installed)
        if installed is None:
            candidate = read_model(folder / CANDIDATE_NAME)
            obstacle = self._obstacle(candidate.card, verdict, stored)
            if obstacle is not None:
                return obstacle
            installed = self._next_generation()
            parameters = (folder / CANDIDATE_NAME / PARAMETERS_NAME).read_bytes()
            card = msgspec.structs.replace(
                candidate.card, generation=installed, round=number, created=self.now(), verdict=verdict
            )
            self.install(card, candidate.model, parameters)
        self.serve(installed)
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
        return RoundOutcome(round=number, outcome=outcome, reason=reason, finished=self.now(), generation=generation)

    def close_round(
        self, number: int, outcome: Unjudged, reason: str, *, lost_its_ground: bool = False
    ) -> RoundOutcome:
        """Close round `number` without a verdict."""
        now = self.now()
        return close_unjudged(self.state, number, outcome, reason, now=now, lost_its_ground=lost_its_ground)

    @in_turn
    def drop_generations_that_saw(self, sample_ids: Iterable[str]) -> Sequence[int]:
        """Remove every model and plan with a trace of these samples, and abandon the open round that has one.

        `current` moves to the newest model without a trace before any folder goes. Returns the dropped generations.
        """
        forgotten = set(sample_ids)
        self.sweep()
        forget_in_rounds(self.state, forgotten, now=self.now())
        doomed = self.that_saw(forgotten)
        if linked_generation(self.models) in doomed:
            untouched = self.newest_without(doomed)
            if untouched is None:
                raise StoreDamaged(
                    f"No model in {self.models} without a trace of the forgotten samples verifies; "
                    "run `mmd init` again, and then forget them."
                )
            self.serve(untouched)
        for number in doomed:
            durable.remove_folder(generation_folder(self.models, number))
            log.info("dropped generation=%d reason=sample_forgotten", number)
        return doomed

    def that_saw(self, sample_ids: Iterable[str]) -> list[int]:
        """Return the generations with a trace of these samples, oldest first."""
        sought = set(sample_ids)
        return [number for number in generations(self.models) if self._saw(number, sought)]

    def _saw(self, generation: int, forgotten: set[str]) -> bool:
        if generation == 0:
            return False  # it comes with the artifact set
        try:
            return bool(forgotten.intersection(read_card(generation_folder(self.models, generation)).sample_ids))
        except StoreDamaged:
            return True  # what it saw can no longer be known, and it cannot serve anyway

    def _made_by_round(self, number: int) -> int | None:
        for generation in generations(self.models):
            try:
                card = read_card(generation_folder(self.models, generation))
            except StoreDamaged:
                continue
            if card.round == number:
                return generation
        return None

    def _next_generation(self) -> int:
        """Return a number that no model ever had, so that a reader can tell two models by it."""
        return max([*generations(self.models), *promoted_generations(self.state)], default=-1) + 1
