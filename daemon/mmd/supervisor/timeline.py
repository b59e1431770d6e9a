"""For how long did each reason hold, when was training possible, and which single limit cost most? From the history."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mmd.policy.reasons import REASONS, Code, Kind
from mmd.supervisor.history import History, StateChange
from mmd.supervisor.states import RUNNING

STOPPED = "stopped"


@dataclass(frozen=True)
class Stretch:
    """From `began` to `ended` (seconds since 1970) neither the state nor the reasons changed."""

    began: float
    ended: float
    state: str
    """One of `mmd.supervisor.states.State`, or `stopped` while no daemon ran."""
    reasons: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class ReasonTotal:
    """What one reason did in the whole time."""

    code: str
    seconds: float
    alone_seconds: float
    """While nothing else kept training back: what it cost by itself."""
    times: int


@dataclass(frozen=True)
class Timeline:
    """What happened between two moments."""

    since: float
    until: float
    stretches: tuple[Stretch, ...]
    """In the order of time, without gaps."""
    reasons: tuple[ReasonTotal, ...]
    """The longest first."""

    @property
    def observed_seconds(self) -> float:
        """While a daemon ran."""
        return sum(stretch.seconds for stretch in self.stretches if stretch.state != STOPPED)

    @property
    def possible_seconds(self) -> float:
        """While a daemon ran and no limit kept training back, whether there was work or not."""
        return sum(stretch.seconds for stretch in self.stretches if stretch.state != STOPPED and not _limits(stretch))

    @property
    def training_seconds(self) -> float:
        return sum(stretch.seconds for stretch in self.stretches if stretch.state in RUNNING)

    @property
    def costliest(self) -> ReasonTotal | None:
        """The limit that alone kept training back for longest; `None` when none did so alone."""
        limits = [total for total in self.reasons if is_limit(total.code) and total.alone_seconds > 0]
        return max(limits, key=lambda total: total.alone_seconds, default=None)


def is_limit(code: str) -> bool:
    """Whether a reason is an obstacle, and not the lack of work."""
    return code not in {known.value for known in Code} or REASONS[Code(code)].kind is not Kind.WORK


def read_timeline(history: History, since: float, until: float, *, is_running: bool) -> Timeline:
    """Return what happened from `since` to `until`; a daemon that is not running ended at its last sign of life."""
    changes = history.states_around(since)
    if not is_running and changes and changes[-1].state != STOPPED:
        at = max(history.last_sign_of_life(), changes[-1].at)
        changes = [*changes, StateChange(at, STOPPED, (), None, None)]
    stretches = tuple(_stretches(changes, since, until))
    return Timeline(since, until, stretches, tuple(_totals(stretches)))


def _stretches(changes: Sequence[StateChange], since: float, until: float) -> Iterator[Stretch]:
    at, state, reasons = since, STOPPED, ()  # type: tuple[float, str, tuple[str, ...]]
    for change in changes:
        moment = min(max(change.at, at), until)  # a clock that jumped back costs the time it jumped over
        if moment > at:
            yield Stretch(at, moment, state, reasons)
        at, state, reasons = moment, change.state, change.reasons
    if until > at:
        yield Stretch(at, until, state, reasons)


def _totals(stretches: Collection[Stretch]) -> list[ReasonTotal]:
    held: dict[str, float] = {}
    alone: dict[str, float] = {}
    times: dict[str, int] = {}
    before: Collection[str] = ()
    for stretch in stretches:
        limits = _limits(stretch)
        for code in stretch.reasons:
            held[code] = held.get(code, 0.0) + stretch.seconds
            times[code] = times.get(code, 0) + (code not in before)
        if len(limits) == 1:
            alone[limits[0]] = alone.get(limits[0], 0.0) + stretch.seconds
        before = stretch.reasons
    totals = [ReasonTotal(code, seconds, alone.get(code, 0.0), times[code]) for code, seconds in held.items()]
    return sorted(totals, key=lambda total: (-total.seconds, total.code))


def _limits(stretch: Stretch) -> list[str]:
    return [code for code in stretch.reasons if is_limit(code)]
