"""Where are the losses of a round written, so that a resumed round continues the same curve?

One JSON object a line in `losses.jsonl`, nothing in it that depends on time: a killed and resumed round writes the same
bytes as one left alone.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mmd import durable
from mmd.training.engine import LossWeights, StepLosses

LOSSES_NAME = "losses.jsonl"


class LossLine(msgspec.Struct, frozen=True):
    """The losses of one step, before it was taken."""

    step: int
    """Counts from 1."""
    loss: float
    label: float
    soft: float
    hints: tuple[float, ...]
    alpha: float
    beta: tuple[float, ...]
    gamma: float
    learning_rate: float


def loss_line(step: int, losses: StepLosses, weights: LossWeights, learning_rate: float) -> LossLine:
    return LossLine(
        step=step,
        loss=losses.total,
        label=losses.label,
        soft=losses.soft,
        hints=losses.hints,
        alpha=weights.alpha,
        beta=weights.betas,
        gamma=weights.gamma,
        learning_rate=learning_rate,
    )


def read_losses(folder: Path) -> list[LossLine]:
    """Return the losses written in a round's folder so far; a half last line is left out."""
    try:
        encoded = (folder / LOSSES_NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    lines: list[LossLine] = []
    for each in encoded:
        try:
            lines.append(msgspec.json.decode(each, type=LossLine))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
    return lines


class LossLog:
    """Appends to `losses.jsonl` of one round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOSSES_NAME
        self._file = self._path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, line: LossLine) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Force what was appended to disk; called before each checkpoint, so the curve never lags behind it."""
        os.fsync(self._file.fileno())

    def truncate(self, step: int) -> None:
        """Keep the lines of the first `step` steps only."""
        kept = [line for line in read_losses(self._folder) if line.step <= step]
        self._file.close()
        durable.write_bytes(self._path, b"".join(msgspec.json.encode(line) + b"\n" for line in kept))
        self._file = self._path.open("ab")
