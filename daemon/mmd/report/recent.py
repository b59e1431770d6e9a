"""What was learned since yesterday, and how much time did each reason cost? From store, rounds and history."""

from collections.abc import Iterator, Sequence

from mmd.artifact.card import Verdict
from mmd.errors import DaemonNotRunning, MmdError, StoreDamaged
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.policy.reasons import REASONS, Code
from mmd.promotion.outcome import RoundOutcome, read_outcome, read_verdict
from mmd.report.data import LostTime, Recent
from mmd.samples.store import SampleStore
from mmd.supervisor.accounts import round_cost
from mmd.supervisor.client import ask
from mmd.supervisor.history import History
from mmd.supervisor.timeline import Timeline, is_limit, read_timeline

RECENT_SECONDS = 86400.0
_LONG_MINUTES = 90


def recent(state: StateDir, history: History | None, *, now: float) -> Recent:
    """Tell the last day."""
    since = now - RECENT_SECONDS
    timeline = None if history is None else read_timeline(history, since, now, is_running=is_daemon_running(state))
    taken_back = [] if history is None else [each.detail for each in history.events(since) if each.name == "taken_back"]
    return Recent(
        news=(
            *_samples_news(state, since),
            *_round_news(state, since),
            *(f"Taken back: {detail}" for detail in taken_back),
            *_time_news(timeline),
        ),
        lost=() if timeline is None else tuple(_lost(timeline)),
    )


def is_daemon_running(state: StateDir) -> bool:
    try:
        ask(state.control_socket, {"request": "status"})
    except DaemonNotRunning:
        return False
    except MmdError:
        return True  # it answers, if not to us
    return True


def _samples_news(state: StateDir, since: float) -> Iterator[str]:
    with SampleStore(state.samples_db) as store:
        came = [record for record in store.records() if record.ingested > since]
    if not came:
        yield "No sample came in."
        return
    labelled = sum(record.label is not None for record in came)
    yield f"{_counted(len(came), 'sample')} came in, {labelled} of them with a label."


def _round_news(state: StateDir, since: float) -> Iterator[str]:
    ended = [
        outcome
        for number in round_numbers(state)
        if (outcome := read_outcome(round_folder(state, number))) is not None and outcome.finished > since
    ]
    if not ended:
        yield "No round of training ended."
        return
    minutes = sum(round_cost(state, outcome.round).seconds for outcome in ended) / 60
    promoted = sum(outcome.outcome == "promoted" for outcome in ended)
    took = f" after {minutes:.1f} min of training" if minutes else ""
    yield f"{_counted(len(ended), 'round')} of training ended{took}; {promoted or 'none'} made a better model."
    for outcome in ended:
        yield from _learned(state, outcome)


def _learned(state: StateDir, outcome: RoundOutcome) -> Iterator[str]:
    """Say what a promoted round changed, class by class."""
    if outcome.outcome != "promoted":
        return
    try:
        verdict = read_verdict(round_folder(state, outcome.round))
    except StoreDamaged:
        return
    if verdict is None:
        return
    told = (
        f"Generation {outcome.generation} gets {verdict.holdout_right_after} of {verdict.holdout_total} held-out "
        f"samples right, where it was {verdict.holdout_right_before}"
    )
    changes = [f"{words}: {', '.join(names)}" for words, names in _by_class(verdict).items() if names]
    yield f"{told} ({'; '.join(changes)})." if changes else f"{told}."


def _by_class(verdict: Verdict) -> dict[str, list[str]]:
    """Return the classes of which more, or fewer, held-out samples are right."""
    gains = [
        after[place] - before[place]
        for place, (before, after) in enumerate(zip(verdict.confusion_before, verdict.confusion_after, strict=True))
    ]
    named = list(zip(verdict.classes, gains, strict=True))
    return {
        "better at": [name for name, gain in named if gain > 0],
        "worse at": [name for name, gain in named if gain < 0],
    }


def _time_news(timeline: Timeline | None) -> Iterator[str]:
    if timeline is None or not timeline.observed_seconds:
        yield "The daemon did not run."
        return
    possible = timeline.possible_seconds / timeline.observed_seconds
    yield (
        f"The daemon ran for {words(timeline.observed_seconds)}; training was possible for {possible:.0%} of that, "
        f"and ran for {words(timeline.training_seconds)}."
    )
    costliest = timeline.costliest
    if costliest is not None:
        cost = words(costliest.alone_seconds)
        yield f"What cost most by itself: {_meaning(costliest.code)} ({cost}; {costliest.code})."


def _lost(timeline: Timeline) -> Iterator[LostTime]:
    for total in timeline.reasons:
        yield LostTime(
            code=total.code,
            meaning=_meaning(total.code),
            is_limit=is_limit(total.code),
            seconds=total.seconds,
            alone_seconds=total.alone_seconds,
            share=total.seconds / timeline.observed_seconds if timeline.observed_seconds else 0.0,
            alone_share=total.alone_seconds / timeline.observed_seconds if timeline.observed_seconds else 0.0,
        )


def _meaning(code: str) -> str:
    known: Sequence[str] = [each.value for each in Code]
    return REASONS[Code(code)].meaning if code in known else code.replace("_", " ")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def words(seconds: float) -> str:
    """Say a time as a person would: 40 s, 12 min, 7.5 h."""
    if seconds < _LONG_MINUTES:
        return f"{seconds:.0f} s"
    if seconds < _LONG_MINUTES * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
