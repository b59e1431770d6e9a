"""Which rows does the table of owners have, and what does each give for one owner? Raw counts only, no statistics."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import Verdict
from mmd.artifact.load import ArtifactSet, normalise
from mmd.artifact.manifest import Schedule
from mmd.artifact.preprocess import Preprocessing
from mmd.artifact.session import open_session
from mmd.config import GateConfig, SamplesConfig, TrainingConfig
from mmd.promotion.memory import with_memory
from mmd_tools.bench.owners_data import Owner, split_owner
from mmd_tools.bench.owners_memory import Floats, Memory, MemoryTuning, Reader
from mmd_tools.bench.owners_rounds import Again, Lesson, Taught, teach
from mmd_tools.train_data import Part

SHIPPED, MENTOR = "shipped", "Mentor"
MENTORED = "mentored + replay"
"""The Mentor's terms for every sample, labelled or not: the default of sets without a `labelled_schedule`."""
DEFAULT, GATED = "the product, before its gate", "the product (default)"
NEIGHBOURS, MEMORY = "k-nearest neighbours", "memory"
LABELLED = 0.2
"""Share of the samples that an owner labels who labels few."""
NO_FOLDS = GateConfig(folds=0)


ADAMANT = "adamant"


def _alone(**keys: object) -> Lesson:
    """Return a round with one candidate, what was trained, and a gate without fold models."""
    return Lesson(msgspec.convert({"memory": False, "blends": (1.0,), **keys}, TrainingConfig), gate=NO_FOLDS)


LESSONS: dict[str, Lesson] = {
    "labels only": _alone(preset="independent", replay=0.0),
    "labels + replay": _alone(preset="independent"),
    "mentored": _alone(preset=ADAMANT, replay=0.0),
    "mentored without hints + replay": replace(_alone(preset=ADAMANT), has_hints=False),
    "obedient + replay": _alone(preset="obedient"),
    "one view + replay": _alone(preset=ADAMANT, views=1),
    MENTORED: _alone(preset=ADAMANT),
    DEFAULT: replace(
        _alone(),
        judged_again={
            "half-way + memory": Again((0.5,), memory=True),
            "all the way + memory": Again((1.0,), memory=True),
            "the product, held-out samples alone": Again((0.0, *TrainingConfig().blends), memory=True, is_gated=True),
        },
    ),
    GATED: Lesson(
        is_gated=True,
        judged_again={
            "the product without memory": Again(TrainingConfig().blends, memory=False, is_gated=True),
            "the product, a memory at 30 %": Again(
                (0.0, *TrainingConfig().blends), memory=True, is_gated=True, gate=GateConfig(memory_significance=0.3)
            ),
        },
    ),
    "unlabelled only + replay": replace(_alone(), labelled=0.0),
}
"""The rounds of the table; the other rows need none."""

PARTLY: dict[str, Lesson] = {
    "labelled alone: labels + replay": replace(_alone(preset="independent"), labelled=LABELLED, takes_unlabelled=False),
    "labelled alone: mentored + replay": replace(_alone(preset=ADAMANT), labelled=LABELLED, takes_unlabelled=False),
    MENTORED: replace(_alone(preset=ADAMANT), labelled=LABELLED),
    DEFAULT: replace(_alone(), labelled=LABELLED, judged_again={"half-way + memory": Again((0.5,), memory=True)}),
    GATED: Lesson(labelled=LABELLED, is_gated=True),
}
"""The rounds of owners who label few of their samples."""

QUICK_ROWS = ("labels only", MENTORED, DEFAULT, GATED)


def _constant(alpha: float, beta: float, gamma: float) -> Schedule:
    return Schedule(alpha=((0.0, alpha),), beta=((0.0, beta),), gamma=((0.0, gamma),))


SEARCH: dict[str, Lesson] = {
    DEFAULT: _alone(),
    GATED: Lesson(is_gated=True),
    "an eighth held out": Lesson(samples=SamplesConfig(holdout=0.125), is_gated=True),
    "half held out": Lesson(samples=SamplesConfig(holdout=0.5), is_gated=True),
    "obedient": _alone(preset="obedient"),
    "adamant": _alone(preset=ADAMANT),
    "independent": _alone(preset="independent"),
    "no hints": replace(_alone(preset=ADAMANT), has_hints=False),
    "constant 1, .3, .5": replace(_alone(), schedule=_constant(1.0, 0.3, 0.5)),
    "constant 1, 0, .25": replace(_alone(), schedule=_constant(1.0, 0.0, 0.25)),
    "temperature 1": replace(_alone(preset=ADAMANT), temperature=1.0),
    "temperature 4": replace(_alone(preset=ADAMANT), temperature=4.0),
    "epochs 10": _alone(epochs=10),
    "epochs 40": _alone(epochs=40),
    "learning rate 3e-4": _alone(learning_rate=3e-4),
    "learning rate 2e-3": _alone(learning_rate=2e-3),
    "learning rate 4e-3": _alone(learning_rate=4e-3),
    "replay 0.25": _alone(replay=0.25),
    "replay 0.75": _alone(replay=0.75),
    "batch 16": _alone(batch_size=16),
    "batch 64": _alone(batch_size=64),
    "adamant, learning rate 2e-3": _alone(preset=ADAMANT, learning_rate=2e-3),
    "adamant, replay 0.25": _alone(preset=ADAMANT, replay=0.25),
    "independent, learning rate 2e-3": _alone(preset="independent", learning_rate=2e-3),
}
"""What was tried to find better defaults, on the development owners."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One row for one owner, seed and size. The fields, in this order, are the columns of the raw file."""

    owner: str
    seed: int
    size: int
    row: str
    right: int
    """Of the test part, which the product never saw."""
    total: int
    wins: int
    """Right now and wrong as shipped."""
    losses: int
    """Wrong now and right as shipped."""
    shipped_right_of_own: int
    """How well the shipped Mentee reads what this owner gives away: it says who is hard to read."""
    own: int
    anchor_right: int
    anchor_total: int
    trained_on: int
    held_out: int
    gate: str
    """The verdict's code; empty where there is no gate."""
    cpu_seconds: float


@dataclass(frozen=True)
class _Answers:
    """What a network says about the test part and the anchor set's gate half: right or wrong."""

    test: NDArray[np.bool_]
    anchor: NDArray[np.bool_]


class OwnersBench:
    """Scores every row for one owner after the other."""

    def __init__(self, artifact_set: ArtifactSet, *, lessons: Mapping[str, Lesson], tuning: MemoryTuning) -> None:
        self._set, self._lessons, self._tuning = artifact_set, lessons, tuning
        self._preprocessing = Preprocessing.of(artifact_set)
        self._anchor = self._preprocessed(Part(*artifact_set.gate_anchor()))
        graphs = artifact_set.manifest.graphs
        self._shipped_model = artifact_set.path(graphs.inference).read_bytes()
        self._shipped = Reader(self._shipped_model, artifact_set)
        self._mentor = _MentorReader(artifact_set)

    def records(self, owner: Owner, seed: int, sizes: Sequence[int]) -> Iterator[Record]:
        """Yield the records of `owner`: every row sees the same subsets, and the same test part at every size."""
        split = split_owner(owner, seed, largest=max(sizes))
        own, test = self._preprocessed(split.own), self._preprocessed(split.test)
        before = self._answers(self._shipped.probabilities, test)
        of_own = self._shipped.probabilities(own.inputs).argmax(axis=1) == own.labels
        mentor = self._answers(self._mentor.logits, test)
        for size in sizes:
            given = Part(split.own.inputs[:size], split.own.labels[:size])
            for row, taught, after, seconds, gate in self._rows(given, test, seed, before, mentor):
                yield Record(
                    owner=owner.name,
                    seed=seed,
                    size=size,
                    row=row,
                    right=int(after.test.sum()),
                    total=len(after.test),
                    wins=int((after.test & ~before.test).sum()),
                    losses=int((before.test & ~after.test).sum()),
                    shipped_right_of_own=int(of_own.sum()),
                    own=len(of_own),
                    anchor_right=int(after.anchor.sum()),
                    anchor_total=len(after.anchor),
                    trained_on=len(taught.trained_on.labels) if taught else 0,
                    held_out=taught.held_out if taught else 0,
                    gate=gate,
                    cpu_seconds=round(seconds, 4),
                )

    def _rows(
        self, own: Part, test: Part, seed: int, before: _Answers, mentor: _Answers
    ) -> Iterator[tuple[str, Taught | None, _Answers, float, str]]:
        yield SHIPPED, None, before, 0.0, ""
        yield MENTOR, None, mentor, 0.0, ""
        for row, lesson in self._lessons.items():
            taught = teach(self._set, own, lesson, seed=seed)
            reader = Reader(taught.serving if lesson.is_gated else taught.candidate, self._set)
            after = self._answers(reader.probabilities, test)
            yield row, taught, after, taught.cpu_seconds, _code(taught.verdict) if lesson.is_gated else ""
            if row == DEFAULT:
                yield from self._memories(taught, test)
            for name, way in lesson.judged_again.items():
                other = taught.judged_again[name]
                reader = Reader(other.serving if way.is_gated else other.candidate, self._set)
                after = self._answers(reader.probabilities, test)
                yield name, other, after, other.cpu_seconds, _code(other.verdict) if way.is_gated else ""

    def _memories(self, taught: Taught, test: Part) -> Iterator[tuple[str, Taught | None, _Answers, float, str]]:
        """Yield what the shipped Mentee reads with a memory of what has a label and nothing else.

        First the textbook's memory, then the product's.
        """
        is_labelled = taught.trained_on.labels >= 0
        given = Part(taught.trained_on.inputs[is_labelled], taught.trained_on.labels[is_labelled])
        begun = time.process_time()
        neighbours = Memory(self._shipped, given, self._tuning)
        spent = time.process_time() - begun
        yield NEIGHBOURS, taught, self._answers(neighbours.probabilities, test), spent, ""
        begun = time.process_time()
        model, _ = with_memory(self._shipped_model, given.inputs, given.labels, manifest=self._set.manifest, threads=1)
        spent = time.process_time() - begun
        yield MEMORY, taught, self._answers(Reader(model, self._set).probabilities, test), spent, ""

    def _preprocessed(self, part: Part) -> Part:
        return Part(self._preprocessing(part.inputs), part.labels)

    def _answers(self, probabilities: Callable[[NDArray[np.generic]], Floats], test: Part) -> _Answers:
        """Ask about `test`, preprocessed, and the anchor set."""
        return _Answers(*(probabilities(part.inputs).argmax(axis=1) == part.labels for part in (test, self._anchor)))


def _code(verdict: Verdict | None) -> str:
    return verdict.code if verdict else "nothing_to_train_on"


class _MentorReader:
    """The Mentor, asked for its answers alone."""

    def __init__(self, artifact_set: ArtifactSet) -> None:
        self._manifest = artifact_set.manifest
        self._session = open_session(artifact_set.path(self._manifest.graphs.mentor), threads=1)

    def logits(self, inputs: NDArray[np.generic]) -> Floats:
        """Return [n, classes]."""
        feed = {self._manifest.input.name: normalise(inputs, self._manifest.input)}
        logits: Floats = self._session.run([self._manifest.mentor_logits], feed)[0]
        return logits
