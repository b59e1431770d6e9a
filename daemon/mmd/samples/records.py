"""What does the store take in and tell about a sample? Plain data, nothing heavy."""

from enum import Enum

import msgspec


class NewSample(msgspec.Struct, frozen=True):
    """One sample on its way in: the canonical bytes of its form (see `SampleForm`)."""

    content: bytes
    label: str | None
    source: str
    """Where it came from, for the owner to recognise: a file name, with the row where there are several."""


class Outcome(Enum):
    STORED = "stored"
    LABELLED = "labelled"
    """It was stored already, without a label; now it has one."""
    ALREADY_STORED = "already stored"


class Added(msgspec.Struct, frozen=True):
    """What became of one `NewSample`."""

    id: str
    outcome: Outcome
    holdout: bool
    label: str | None
    stored_source: str
    """The source under which the content was stored first."""


class SampleCounts(msgspec.Struct, frozen=True):
    total: int
    labelled: int
    unlabelled: int
    holdout: int
    new: int
    """Trainable samples that no round has seen with their present label."""
    bytes: int

    @property
    def trainable(self) -> int:
        return self.total - self.holdout


class SampleRecord(msgspec.Struct, frozen=True):
    """Everything about a sample except its content."""

    id: str
    label: str | None
    holdout: bool
    source: str
    ingested: float
    """Seconds since the epoch."""
    seen_in_round: int | None
    bytes: int
