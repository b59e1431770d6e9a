"""Which models are on disk, which one serves, and how is one put there? Every change is one rename or one link.

Needs neither numpy nor onnxruntime.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from mmd import durable
from mmd.artifact.card import (
    CARD_NAME,
    MODEL_NAME,
    PARAMETERS_NAME,
    ModelCard,
    VerifiedModel,
    generation_folder,
    generations,
    is_withdrawn,
    linked_generation,
    newest_whole_model,
    read_model,
)
from mmd.artifact.load import ArtifactSet
from mmd.artifact.review import Review, phase_of, read_review
from mmd.errors import StoreDamaged, UsageError
from mmd.layout import StateDir

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
    review: Review | None = None
    """What its probation has shown."""


class Generations:
    """The models of one state folder."""

    def __init__(self, state: StateDir, *, now: Callable[[], float] = time.time) -> None:
        self.state = state
        self.models = state.models
        self.now = now

    def create_shipped(self, artifact_set: ArtifactSet) -> ModelCard:
        """Install generation 0 from the artifact set, or repair it; nothing happens when it is there and whole.

        Raises `UsageError` when the state folder holds the models of another set.
        """
        folder = generation_folder(self.models, 0)
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
                created=self.now(),
            )
            self.install(card, model, parameters)
        if linked_generation(self.models) is None:
            self.serve(0)
        return card

    def _shipped(self, folder: Path, artifact_set: ArtifactSet) -> ModelCard | None:
        """Return the card of a whole generation 0 of this set; `None` when it is missing or damaged."""
        try:
            card = read_model(folder).card
        except StoreDamaged:
            return None
        if card.artifact_sha256 != artifact_set.sha256:
            raise UsageError(
                f"{self.state.root} already holds the models of another artifact set; "
                "choose another --state-dir, or replace the set with `mmd init --force`."
            )
        return card

    def current(self) -> VerifiedModel:
        """Return the serving model, verified; when `current` names a damaged one, the newest that verifies.

        Raises `StoreDamaged` when none does.
        """
        model, complaints = newest_whole_model(self.models)
        for complaint in complaints:
            _warn_once(self.models, complaint)
        if model is None:
            raise StoreDamaged(
                f"No model in {self.models} verifies: {' '.join(complaints) or 'there is none.'} Run `mmd init` again."
            )
        return model

    def list(self) -> list[ModelEntry]:
        """Return every generation, oldest first."""
        try:
            serving = self.current().card.generation
        except StoreDamaged:
            serving = -1
        return [self._entry(number, serves=number == serving) for number in generations(self.models)]

    def _entry(self, generation: int, *, serves: bool) -> ModelEntry:
        folder = generation_folder(self.models, generation)
        try:
            card = read_model(folder).card
        except StoreDamaged:
            return ModelEntry(generation, "damaged", serves, None)
        return ModelEntry(generation, phase_of(folder, card, self.now()), serves, card, read_review(folder))

    def newest_without(self, excluded: Collection[int]) -> int | None:
        """Return the newest whole generation that was not withdrawn and is not `excluded`."""
        for number in reversed(generations(self.models)):
            folder = generation_folder(self.models, number)
            if number in excluded or is_withdrawn(folder):
                continue
            try:
                read_model(folder)
            except StoreDamaged as error:
                _warn_once(self.models, str(error))
                continue
            return number
        return None

    def install(self, card: ModelCard, model: bytes, parameters: bytes) -> None:
        durable.make_folder(self.models)
        folder = generation_folder(self.models, card.generation)
        prepared = self.models / f".{folder.name}.tmp"
        shutil.rmtree(prepared, ignore_errors=True)
        prepared.mkdir()
        write_model(prepared, card, model, parameters)
        durable.install_folder(prepared, folder)

    def serve(self, generation: int) -> None:
        durable.replace_link(self.models / "current", generation_folder(self.models, generation).name)
        log.info("serving generation=%d", generation)

    def sweep(self) -> None:
        for leftover in self.models.glob(".gen-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def retire(self) -> None:
        """Remove old generations: all but the shipped, the serving, its parent, and the newest few.

        The newest few that were not withdrawn stay too: rollbacks must not use up what there is to go back to.
        """
        current = self.current().card
        numbers = generations(self.models)
        standing = [number for number in numbers if not is_withdrawn(generation_folder(self.models, number))]
        kept = {
            0,
            current.generation,
            current.parent,
            *numbers[-_KEPT_GENERATIONS:],
            *standing[-_KEPT_GENERATIONS:],
        }
        for number in numbers:
            if number not in kept:
                durable.remove_folder(generation_folder(self.models, number))
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
