"""What has the daemon learned from trainers that ran out of memory? To compute fewer samples at once.

A trainer that runs out of memory costs its round. Three such rounds in a row halve the micro-batch of those to come,
down to one sample. The lesson is kept on disk; it is forgotten when the trainer is given more memory.
"""

from typing import TYPE_CHECKING

import msgspec

from mmd import durable
from mmd.config import Config
from mmd.layout import StateDir

if TYPE_CHECKING:
    from mmd.training.plan import RoundPlan

ROUNDS_PER_HALVING = 3


class MemoryLesson(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `memory.json`."""

    memory_mib: float
    """What the trainer was allowed when it was learned."""
    rounds: int = 0
    """That ran out of memory since the last one that did not, or since the last halving."""
    micro_batch: int | None = None
    """No more samples than this are computed at once; `None`: as configured."""

    def told(self) -> str:
        """Say it as a sentence."""
        limit = f"of the {self.memory_mib:g} MiB that `daemon.trainer_memory_mib` allows it"
        if self.micro_batch is None:
            times = "in a round" if self.rounds == 1 else f"in {self.rounds} rounds in a row"
            return f"The trainer ran out {limit} {times}."
        more = f", and again in {self.rounds} since" if self.rounds else ""
        least = "; fewer is not possible" if self.micro_batch == 1 and self.rounds else ""
        return (
            f"The trainer ran out {limit}, so it computes no more than {self.micro_batch} "
            f"{'sample' if self.micro_batch == 1 else 'samples'} at once{more}{least}."
        )


def read_lesson(state_dir: StateDir) -> MemoryLesson | None:
    """Return what was learned; `None` when nothing was, or when the file does not parse."""
    try:
        return msgspec.json.decode(state_dir.memory_file.read_bytes(), type=MemoryLesson)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def lesson_in_force(state_dir: StateDir, config: Config) -> MemoryLesson | None:
    """Return what was learned, unless the trainer may use more memory now."""
    lesson = read_lesson(state_dir)
    return None if lesson is None or config.daemon.trainer_memory_mib > lesson.memory_mib else lesson


def with_lesson(state_dir: StateDir, config: Config) -> Config:
    """Return the configuration with the micro-batch that was learned, where that is the smaller one."""
    lesson = lesson_in_force(state_dir, config)
    if lesson is None or lesson.micro_batch is None:
        return config
    wanted = config.training.micro_batch
    micro_batch = lesson.micro_batch if wanted is None else min(wanted, lesson.micro_batch)
    return msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, micro_batch=micro_batch))


def learn(state_dir: StateDir, config: Config, plan: "RoundPlan") -> MemoryLesson:
    """Count one round that ran out of memory; every third one halves the micro-batch."""
    before = lesson_in_force(state_dir, config) or MemoryLesson(memory_mib=config.daemon.trainer_memory_mib)
    rounds, micro_batch = before.rounds + 1, before.micro_batch
    used = plan.micro_batch or plan.batch_size
    if rounds >= ROUNDS_PER_HALVING and used > 1:
        rounds, micro_batch = 0, (used + 1) // 2
    lesson = MemoryLesson(memory_mib=config.daemon.trainer_memory_mib, rounds=rounds, micro_batch=micro_batch)
    _write(state_dir, lesson)
    return lesson


def note_success(state_dir: StateDir) -> None:
    """Begin to count anew: a round had memory enough."""
    lesson = read_lesson(state_dir)
    if lesson is not None and lesson.rounds:
        _write(state_dir, msgspec.structs.replace(lesson, rounds=0))


def _write(state_dir: StateDir, lesson: MemoryLesson) -> None:
    durable.write_bytes(state_dir.memory_file, msgspec.json.encode(lesson) + b"\n")
