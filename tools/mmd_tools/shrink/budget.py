"""What does a board give to a night's round, and what does a round take of it? Counted as the board itself counts."""

import hashlib
import math
import time
from dataclasses import dataclass

import numpy as np

from mmd.artifact.session import open_session
from mmd.training.folds import fold_steps
from mmd_tools.fuse.estimate import inference_bytes
from mmd_tools.fuse.network import Network

_TRIES = 3
JUDGING_BYTES = 32 << 20
"""What the trainer takes to write a candidate and to judge it, beside its steps: 17 to 36 MiB seen."""
FEEDING_MS = 2.0
"""What a step takes here beside the network: rows are read, the loss is noted, checkpoints are made. 1.9 ms seen."""
LOADING_MS = 450.0
"""What the trainer takes here to load its own modules, beside those of `mmd_tools.step_process`."""
_HELD_OUT = 1 / 4
"""Share of the owner's samples that is never trained on."""
_REMEMBERED_PER_CLASS = 32


@dataclass(frozen=True)
class Asking:
    """What it takes to ask the Mentor about one sample: once a sample and view, and once a replayed one."""

    ms: float = 0.0
    """Processor time here."""
    bytes: int = 0
    """Its weights, and the most that one answer needs beside them."""
    start_ms: float = 0.0
    """To check its hash and to open it."""


@dataclass(frozen=True)
class Taking:
    """What a Mentee takes of processor time here."""

    step_ms: float
    start_ms: float = 0.0
    """From the start of the trainer to the first step."""
    open_ms: float = 0.0
    """To write it with other weights, and to open it."""
    answer_ms: float = 0.0
    """To ask it about one sample."""


@dataclass(frozen=True)
class Budget:
    """What the board gives, and what a round is."""

    memory_bytes: float = math.inf
    """To the whole process of the trainer."""
    minutes: float = math.inf
    samples: int = 200
    """Of the owner, that are trained on."""
    epochs: int = 10
    batch: int = 32
    replay: float = 0.5
    views: int = 1
    folds: int = 4
    """Models that the gate has trained beside the candidate, each without its share of the samples."""
    enough_holdout: int = 200
    """With so many held out they judge alone."""
    candidates: int = 3
    """Networks of a round that could serve."""
    classes: int = 10
    anchor: int = 0
    """Samples of everybody that the gate asks about, to see what was forgotten; as many others are replayed."""
    slowdown: float = 1.0
    """How many times longer than here everything takes on the board."""
    asking: Asking = Asking()

    @property
    def steps(self) -> int:
        """As `mmd.training.plan` counts them: of the candidate and of the fold models."""
        own = self.batch - min(round(self.batch * self.replay), self.batch - 1)
        dealt = [place % self._folds for place in range(self.samples)] if self._folds else []
        beside = fold_steps(dealt, epochs=self.epochs, own_per_batch=own)
        return self.epochs * math.ceil(self.samples / own) + sum(beside)

    @property
    def held_out(self) -> int:
        return round(self.samples * _HELD_OUT / (1 - _HELD_OUT))

    @property
    def _folds(self) -> int:
        return self.folds if self.held_out < self.enough_holdout else 0

    @property
    def answers(self) -> int:
        """How often a network is asked about a sample to judge, as `mmd.supervisor.evidence` does.

        What serves and every candidate: about what is held out, in every view unless that is enough as it is; each fold
        model in the candidate's place about its own share; and about the anchor set. Before that every candidate, and
        what stands for it in a fold, reads the samples that it remembers.
        """
        views = self.views if self.held_out < self.enough_holdout else 1
        out_of_fold = self.samples if self._folds else 0
        judged = (self.held_out + out_of_fold) * views + self.anchor
        remembered = min(self.samples, _REMEMBERED_PER_CLASS * self.classes)
        read = remembered * (1 + self._folds) - (self.samples if remembered == self.samples and self._folds else 0)
        return judged * (1 + self.candidates) + read * self.candidates

    @property
    def openings(self) -> int:
        """How often a network is written or opened for that: twice to make one, once wherever it is asked."""
        made = self.candidates * (1 + self._folds)
        return 2 * made + (1 + self.candidates) * (2 + self._folds)

    def beside_ms(self, taking: Taking) -> float:
        """Return what a round takes here beside the Mentor's answers and the steps: to start, and to judge."""
        starting = LOADING_MS + taking.start_ms + self.asking.start_ms
        return starting + self.openings * taking.open_ms + self.answers * taking.answer_ms

    @property
    def asked(self) -> int:
        """How often the Mentor is asked about a sample in a first round; later ones find its answers in the cache."""
        return self.samples * self.views + self.anchor

    def round_minutes(self, taking: Taking) -> float:
        """Return what a first round takes on the board; to make views of samples is not in it."""
        steps = self.steps * (taking.step_ms + FEEDING_MS)
        return (steps + self.asked * self.asking.ms + self.beside_ms(taking)) * self.slowdown / 60_000

    def trainer_bytes(self, process_bytes: int) -> int:
        """Return what the trainer takes, from what a process takes that opens the set and takes steps."""
        return process_bytes + self.asking.bytes + JUDGING_BYTES

    def exceeded(self, process_bytes: int, taking: Taking) -> tuple[str, ...]:
        """Return which of `memory` and `time` a candidate takes too much of."""
        over = {
            "memory": self.trainer_bytes(process_bytes) > self.memory_bytes,
            "time": self.round_minutes(taking) > self.minutes,
        }
        return tuple(name for name, is_over in over.items() if is_over)


def measure_asking(mentor: Network) -> Asking:
    """Ask the Mentor about a sample of noise, a few times; the shortest counts."""
    encoded = mentor.model.SerializeToString()
    began = time.process_time()
    hashlib.sha256(encoded).digest()
    session = open_session(encoded)
    start_ms = (time.process_time() - began) * 1e3
    sample = np.random.default_rng(0).standard_normal((1, *mentor.input_shape)).astype(np.float32)
    times = []
    for _ in range(_TRIES):
        start = time.process_time()
        session.run(None, {mentor.input: sample})
        times.append((time.process_time() - start) * 1e3)
    return Asking(min(times), inference_bytes(mentor.model, 1), start_ms)
