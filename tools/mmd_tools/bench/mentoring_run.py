"""Does a Mentor help a network that learns from a few samples a class? Fresh Mentees through the product's own round.

MNIST-p of Venkatesan & Li (arXiv:1604.08220): p training digits a class, the same ones for every row of a seed. Nothing
is selected: every row takes the same number of steps at the same learning rate, and the last one is scored.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.manifest import Schedule
from mmd.artifact.session import open_session
from mmd.config import GateConfig
from mmd.training.engine import Floats
from mmd.training.engines import open_engine
from mmd.training.feeds import initial_state
from mmd.training.plan import RoundPlan
from mmd.training.round import Listener, RoundData, run_round
from mmd.training.rows import ArrayInputs, Indices
from mmd_tools.bench.mentoring_mentors import Teacher
from mmd_tools.fuse import fuse
from mmd_tools.nets import NetRecipe, build_net, parameter_count, with_weights
from mmd_tools.presets import PRESETS
from mmd_tools.recipe import LossRecipe, ProbeRecipe, Recipe, Width
from mmd_tools.train_data import Part
from mmd_tools.train_score import Scorer

MENTOR = "Mentor"
INDEPENDENT = "independent"
STEPS = {1: 200, 10: 300, 50: 400, 100: 500, 250: 800, 500: 1200}
"""Of one training, by the number of digits a class."""
BATCH_SIZE, LEARNING_RATE = 32, 5e-3
"""The rate of 2e-3, 5e-3 and 1e-2 with which labels alone do best over the three Mentees, on a seed and on digits that
are in no table: those of the validation writers and 3,000 of the students', who wrote none of the test digits."""
_WARMUP_SHARE = 0.05

MENTEES: dict[str, tuple[str, ...]] = {
    "a quarter": ("conv 16 5", "relu", "pool 2", "conv 24 3", "relu", "pool 2", "flatten", "fc 36", "relu", "fc 10"),
    "a 16th": ("conv 8 5", "relu", "pool 4", "flatten", "fc 29", "relu", "fc 10"),
    "a 64th": ("conv 4 5", "relu", "pool 4", "flatten", "fc 13", "relu", "fc 10"),
}
"""About so much of the Mentor's parameters; the raw file has the exact numbers."""


NEVER = ((0.0, 0.0),)


@dataclass(frozen=True)
class Lesson:
    """What sets a row apart."""

    schedule: Schedule
    width: Width = "project"
    """How the Mentor's wider layer is brought together with the Mentee's."""


def _without(schedule: Schedule, *terms: str) -> Schedule:
    return msgspec.structs.replace(schedule, **dict.fromkeys(terms, NEVER))


ROWS: dict[str, Lesson] = {
    INDEPENDENT: Lesson(PRESETS["independent"]),
    "labels + soft targets": Lesson(_without(PRESETS["obedient"], "beta")),
    "labels + hints": Lesson(_without(PRESETS["obedient"], "gamma")),
    "obedient": Lesson(PRESETS["obedient"]),
    "obedient, PCA hints": Lesson(PRESETS["obedient"], "pca"),
    "adamant": Lesson(PRESETS["adamant"]),
}
WIDTHS = tuple(dict.fromkeys(lesson.width for lesson in ROWS.values()))


Cell = tuple[str, int, int, str]
"""A Mentee, digits a class, a seed and a row: what one training is told from the others by."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One training. The fields, in this order, are the columns of the raw file."""

    mentee: str
    parameters: int
    per_class: int
    seed: int
    row: str
    right: int
    total: int
    steps: int
    cpu_seconds: float

    @property
    def cell(self) -> Cell:
        return self.mentee, self.per_class, self.seed, self.row


@dataclass(frozen=True)
class Pool:
    """Training digits of one seed, with what the Mentor says about each."""

    digits: Part
    """Class by class in turn: the first 10 p are p a class."""
    mentor: Mapping[str, Floats]


@dataclass(frozen=True)
class _Outputs:
    """The Mentor's outputs, in memory."""

    arrays: Mapping[str, Floats]

    def rows(self, samples: Indices, views: Indices) -> Mapping[str, Floats]:
        return {name: array[samples] for name, array in self.arrays.items()}


class MentoringBench:
    """Trains every row on one pool after the other."""

    def __init__(self, teacher: Teacher, train: Part, test: Part, folder: Path) -> None:
        self._teacher, self._train, self._test, self._folder = teacher, train, test, folder

    def mentor_record(self) -> Record:
        """Score the Mentor itself."""
        score = Scorer(self._teacher.network, self._teacher.input)
        right = round(score.accuracy(self._test.inputs, self._test.labels) * len(self._test.labels))
        count = parameter_count(onnx.load(self._teacher.network))
        return Record(MENTOR, count, 0, 0, MENTOR, right, len(self._test.labels), 0, 0.0)

    def records(
        self, seed: int, mentee: str, sizes: Sequence[int], done: AbstractSet[Cell] = frozenset()
    ) -> Iterator[Record]:
        """Yield a record for each size and row that is not `done`, all on the same digits and from the same start."""
        for width in WIDTHS:
            left = [(size, row) for size in sizes for row in ROWS if ROWS[row].width == width]
            left = [(size, row) for size, row in left if (mentee, size, seed, row) not in done]
            if not left:
                continue
            digits = draw(self._train, max(size for size, _ in left), seed)
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                artifact_set, parameters = self._fused(mentee, seed, width, Path(folder))
                pool = Pool(digits, ask(artifact_set, digits))
                for size, row in left:
                    yield self._record(artifact_set, pool, mentee, parameters, size, seed, row)

    def _record(
        self, artifact_set: ArtifactSet, pool: Pool, mentee: str, parameters: int, size: int, seed: int, row: str
    ) -> Record:
        begun = time.process_time()
        model = train_one(artifact_set, pool, ROWS[row].schedule, per_class=size, seed=seed)
        spent = time.process_time() - begun
        total = len(self._test.labels)
        accuracy = Scorer(model, self._teacher.input).accuracy(self._test.inputs, self._test.labels)
        return Record(mentee, parameters, size, seed, row, round(accuracy * total), total, STEPS[size], round(spent, 2))

    def _fused(self, mentee: str, seed: int, width: Width, folder: Path) -> tuple[ArtifactSet, int]:
        teacher = self._teacher
        net = build_net(NetRecipe(layers=MENTEES[mentee], input=self._train.inputs.shape[1:], seed=seed))
        (folder / "mentee.onnx").write_bytes(net.SerializeToString(deterministic=True))
        last_relu = [node.output[0] for node in net.graph.node if node.op_type == "Relu"][-1]
        recipe = Recipe(
            name="mentoring",
            licence="none; it is thrown away",
            classes=teacher.classes,
            anchor=str(teacher.anchor),
            input=teacher.input,
            probe=tuple(
                ProbeRecipe(mentor=tensor, mentee=last_relu, weight=weight, width=width)
                for tensor, weight in teacher.hints
            ),
            loss=LossRecipe(temperature=teacher.temperature),
        )
        fuse(teacher.network, folder / "mentee.onnx", recipe, folder / "set")
        return open_set(folder / "set"), parameter_count(net)


def ask(artifact_set: ArtifactSet, digits: Part) -> Mapping[str, Floats]:
    """Return what the Mentor says about each of `digits`, by output."""
    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor), threads=1)
    names = [output.name for output in session.get_outputs()]
    inputs = normalise(digits.inputs, manifest.input)
    parts = [session.run(names, {manifest.input.name: inputs[at : at + 100]}) for at in range(0, len(inputs), 100)]
    return {name: np.concatenate(pieces) for name, pieces in zip(names, zip(*parts, strict=True), strict=True)}


def draw(train: Part, per_class: int, seed: int) -> Part:
    """Draw `per_class` digits of each class, interleaved, so that smaller subsets are the beginnings of larger ones."""
    order = np.random.default_rng(seed).permutation(len(train.labels))
    by_class = [order[train.labels[order] == label][:per_class] for label in range(int(np.max(train.labels)) + 1)]
    places = np.stack(by_class, axis=1).ravel()
    return Part(train.inputs[places], train.labels[places])


def train_one(artifact_set: ArtifactSet, pool: Pool, schedule: Schedule, *, per_class: int, seed: int) -> bytes:
    """Return the Mentee after one round of the product from its fresh start."""
    manifest = artifact_set.manifest
    count = per_class * len(manifest.classes)
    plan = _plan(artifact_set, schedule, STEPS[per_class], seed)
    data = RoundData(
        inputs=ArrayInputs(pool.digits.inputs[:count]),
        labels=pool.digits.labels[:count],
        own=count,
        mentor=_Outputs({name: array[:count] for name, array in pool.mentor.items()}),
        input_spec=manifest.input,
    )
    engine = open_engine(artifact_set)
    listener = Listener(on_step=lambda step, loss: None, on_notice=lambda text: None, should_stop=lambda: False)
    with tempfile.TemporaryDirectory(dir=artifact_set.folder.parent) as folder:
        run_round(plan, Path(folder), engine, data, initial_state(artifact_set), listener)
    network = onnx.load(artifact_set.path(manifest.graphs.inference))
    model: bytes = with_weights(network, dict(engine.state().parameters)).SerializeToString(deterministic=True)
    return model


def _plan(artifact_set: ArtifactSet, schedule: Schedule, steps: int, seed: int) -> RoundPlan:
    loss = artifact_set.manifest.loss
    return RoundPlan(
        number=1,
        created=0.0,
        artifact_sha256=artifact_set.sha256,
        engine="portable",
        threads=1,
        seed=seed,
        preset="of the bench",
        schedule=schedule,
        temperature=loss.temperature,
        hint_weights=loss.hint_weights,
        hint_schedules=loss.hint_schedules,
        epochs=1,
        steps=steps,
        batch_size=BATCH_SIZE,
        replay_per_batch=0,
        learning_rate=LEARNING_RATE,
        warmup_steps=round(steps * _WARMUP_SHARE),
        checkpoint_every=steps,
        start_generation=0,
        sample_ids=(),
        labels=(),
        gate=GateConfig(),
    )
