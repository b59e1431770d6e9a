"""What does a board give to a night's round, and what does a round take of it? Counted as the board itself counts."""

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


@dataclass(frozen=True)
class Asking:
    """What it takes to ask the Mentor about one sample, which happens once a sample and view."""

    ms: float = 0.0
    """Processor time here."""
    bytes: int = 0
    """Its weights, and the most that one answer needs beside them."""


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
    slowdown: float = 1.0
    """How many times longer than here everything takes on the board."""
    asking: Asking = Asking()

    @property
    def steps(self) -> int:
        """As `mmd.training.plan` counts them: of the candidate and of the fold models."""
        own = self.batch - min(round(self.batch * self.replay), self.batch - 1)
        dealt = [place % self.folds for place in range(self.samples)] if self.folds else []
        beside = fold_steps(dealt, epochs=self.epochs, own_per_batch=own)
        return self.epochs * math.ceil(self.samples / own) + sum(beside)

    def round_minutes(self, step_ms: float) -> float:
        asked = self.samples * self.views * self.asking.ms
        return (self.steps * step_ms + asked) * self.slowdown / 60_000

    def trainer_bytes(self, process_bytes: int) -> int:
        """Return what the trainer takes, from what a process takes that opens the set and takes steps."""
        return process_bytes + self.asking.bytes + JUDGING_BYTES

    def exceeded(self, process_bytes: int, step_ms: float) -> tuple[str, ...]:
        """Return which of `memory` and `time` a candidate takes too much of."""
        over = {
            "memory": self.trainer_bytes(process_bytes) > self.memory_bytes,
            "time": self.round_minutes(step_ms) > self.minutes,
        }
        return tuple(name for name, is_over in over.items() if is_over)


def measure_asking(mentor: Network) -> Asking:
    """Ask the Mentor about a sample of noise, a few times; the shortest counts."""
    session = open_session(mentor.model.SerializeToString())
    sample = np.random.default_rng(0).standard_normal((1, *mentor.input_shape)).astype(np.float32)
    times = []
    for _ in range(_TRIES):
        start = time.process_time()
        session.run(None, {mentor.input: sample})
        times.append((time.process_time() - start) * 1e3)
    return Asking(min(times), inference_bytes(mentor.model, 1))
