"""What does a report show? Plain structures between the state folder and the page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AccuracyRow:
    """One line of the comparison on the held-out samples."""

    name: str
    right: int
    total: int
    note: str = ""

    @property
    def accuracy(self) -> float:
        return self.right / self.total if self.total else 0.0


@dataclass(frozen=True)
class LossCurve:
    """One term of the loss over the steps of a round."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Round:
    """One round with its verdict."""

    number: int
    outcome: str
    curves: tuple[LossCurve, ...]
    classes: tuple[str, ...] = ()
    """That the round was judged on, in the order of the confusions."""
    confusion_before: tuple[tuple[int, ...], ...] | None = None
    confusion_after: tuple[tuple[int, ...], ...] | None = None
    """Rows: the true class, columns: the predicted one; held-out samples only."""
    cost: str = ""
    """Time and energy, in words; empty where nothing was reckoned."""
    is_mentored: bool = True
    """Whether any of its steps asks the Mentor anything."""


@dataclass(frozen=True)
class Span:
    """The daemon was in `state` from `start` to `end`, seconds since the epoch."""

    state: str
    start: float
    end: float
    note: str = ""


@dataclass(frozen=True)
class ConditionTrack:
    """What one condition read over time."""

    name: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class LostTime:
    """For how long one reason held in the last day."""

    code: str
    meaning: str
    is_limit: bool
    """Whether it is an obstacle, and not the lack of work."""
    seconds: float
    alone_seconds: float
    """While nothing else kept training back."""
    share: float
    """Of the time in which a daemon ran."""
    alone_share: float


@dataclass(frozen=True)
class Recent:
    """The last day."""

    news: tuple[str, ...]
    """What was learned, in sentences."""
    lost: tuple[LostTime, ...]
    """The longest first."""


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    title: str
    created: float
    """Seconds since the epoch."""
    facts: tuple[tuple[str, str], ...]
    """Name and value, for the summary."""
    recent: Recent
    comparison: tuple[AccuracyRow, ...]
    rounds: tuple[Round, ...]
    spans: tuple[Span, ...]
    conditions: tuple[ConditionTrack, ...]
