"""May training run now? One pure function that returns every reason against it; none means go."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from mmd.conditions import Conditions, Instant
from mmd.config import Config
from mmd.policy.levels import LEVELS, standing
from mmd.policy.reasons import Code, Kind, Reason
from mmd.policy.tracker import Tracker

SETTLE_SECONDS = 3.0
"""A new round waits until no sample has arrived for this long, so that it takes all of them."""
LONGEST_COOLDOWN_SECONDS = 6 * 3600.0
_FAILURE_FACTOR = 4.0


class Mode(StrEnum):
    AUTO = "auto"
    FORCED = "forced"
    """The owner wants a round now: only what makes it impossible, or their own later `mmd pause`, keeps it back."""


FORCED_OBEYS = frozenset({Code.HELD_BY_USER, Code.TRAINER_FAILED, Code.MODELS_BUSY, Code.NO_ARTIFACT_SET})


class Facts(msgspec.Struct, frozen=True):
    """What the policy knows beside the conditions."""

    is_running: bool = False
    """A trainer is using the processor: stop levels decide instead of start levels."""
    has_artifact_set: bool = True
    is_round_open: bool = False
    """A round was begun and must be finished, new samples or not."""
    trainable: int = 0
    new: int = 0
    has_trained: bool = False
    """At least one round was finished."""
    held_since: float | None = None
    """Wall time; `None` when the owner does not hold training."""
    samples_grew: float | None = None
    """Monotonic time when the store was last seen to grow."""
    round_ended: float | None = None
    """Monotonic time of the end of the last round."""
    failed_rounds: int = 0
    """How many of the latest rounds failed in a row; each makes the rest longer."""
    retry_at: float | None = None
    """Monotonic time before which a trainer that failed is not started again, or a verdict not carried out."""
    failure: str = ""
    is_put_off: bool = False
    """No trainer failed: others were changing the models when the verdict was to be carried out."""
    stopped_since: float | None = None
    """Wall time since when no daemon runs; `None` while one does."""
    holder: int | None = None
    """The process that holds the state folder all the same: `mmd train` does."""


def decide(
    conditions: Conditions, facts: Facts, config: Config, *, tracker: Tracker, mode: Mode, now: Instant
) -> list[Reason]:
    """Return every reason why training must not run now; an empty list means go.

    While nothing runs, each condition must meet its start level for its dwell; what runs goes on until a stop level
    is crossed.
    """
    return [
        reason
        for reason in _every_reason(conditions, facts, config, tracker, now)
        if mode is Mode.AUTO or reason.code in FORCED_OBEYS
    ]


def overridden(
    conditions: Conditions, facts: Facts, config: Config, *, tracker: Tracker, mode: Mode, now: Instant
) -> list[Reason]:
    """Return the reasons that hold and that `mode` does not obey."""
    if mode is Mode.AUTO:
        return []
    every = _every_reason(conditions, facts, config, tracker, now)
    return [reason for reason in every if reason.code not in FORCED_OBEYS]


def has_work(reasons: Sequence[Reason]) -> bool:
    """Return whether training would start if only the board, the owner and the clock allowed it."""
    return not any(reason.kind is Kind.WORK for reason in reasons)


def cooldown_seconds(config: Config, failed_rounds: int) -> float:
    """Return the rest after a round: the configured one, four times as long for each failure in a row."""
    usual = config.daemon.cooldown_seconds
    if not failed_rounds:
        return usual
    longer: float = max(usual, 1.0) * _FAILURE_FACTOR ** min(failed_rounds, 16)
    return max(usual, min(longer, LONGEST_COOLDOWN_SECONDS))


def _every_reason(conditions: Conditions, facts: Facts, config: Config, tracker: Tracker, now: Instant) -> list[Reason]:
    return [
        *_daemon_reasons(facts),
        *_resource_reasons(conditions, facts, config, tracker, now),
        *_owner_and_pace_reasons(facts, config, tracker, now),
        *_work_reasons(facts, config, tracker, now),
    ]


def _daemon_reasons(facts: Facts) -> Iterator[Reason]:
    if facts.stopped_since is not None:
        busy = "" if facts.holder is None else f", but process {facts.holder} is at work: `mmd train`, say"
        yield Reason(Code.NO_DAEMON, f"No daemon is running{busy}.", facts.stopped_since, "you start `mmd run`")


def _since(code: Code, tracker: Tracker, now: Instant) -> float:
    return now.wall_of(tracker.reason_since.get(code, now.monotonic))


def _resource_reasons(
    conditions: Conditions, facts: Facts, config: Config, tracker: Tracker, now: Instant
) -> Iterator[Reason]:
    for name, (code, _) in LEVELS.items():
        stands = standing(name, conditions, config.conditions)
        if facts.is_running:
            if stands.meets_stop:
                continue
            left = stands.dwell_seconds
        else:
            met_since = tracker.met_since.get(name)
            held_for = 0.0 if met_since is None else now.monotonic - met_since
            left = stands.dwell_seconds - held_for
            if stands.meets_start and left <= 0:
                continue
        yield Reason(
            code=code,
            message=stands.message if not stands.meets_start else f"Not long enough yet: {stands.clears_when}.",
            since=_since(code, tracker, now),
            clears_when=_with_dwell(stands.clears_when, left, pending=stands.meets_start),
        )


def _with_dwell(clears_when: str, left: float, *, pending: bool) -> str:
    if left <= 0:
        return clears_when
    return f"{clears_when} for {max(1, round(left))} s{' more' if pending else ''}"


def _owner_and_pace_reasons(facts: Facts, config: Config, tracker: Tracker, now: Instant) -> Iterator[Reason]:
    if facts.held_since is not None:
        yield Reason(Code.HELD_BY_USER, "You hold training.", facts.held_since, "you run `mmd resume`")
    if facts.retry_at is not None and now.monotonic < facts.retry_at:
        code, message = Code.TRAINER_FAILED, f"The trainer failed: {facts.failure}"
        if facts.is_put_off:
            code, message = Code.MODELS_BUSY, "The round is judged, and another command is changing the models."
        clears = f"it is tried again in {_duration(facts.retry_at - now.monotonic)}"
        yield Reason(code, message, _since(code, tracker, now), clears)
    if facts.round_ended is not None and not facts.is_round_open:
        left = facts.round_ended + cooldown_seconds(config, facts.failed_rounds) - now.monotonic
        if left > 0:
            failed = {0: "", 1: ", and failed"}.get(facts.failed_rounds, f", and the last {facts.failed_rounds} failed")
            yield Reason(
                Code.COOLDOWN,
                f"The last round ended {_duration(now.monotonic - facts.round_ended)} ago{failed}.",
                now.wall_of(facts.round_ended),
                f"{_duration(left)} have passed",
            )
    if facts.samples_grew is not None and not facts.is_round_open:
        left = facts.samples_grew + SETTLE_SECONDS - now.monotonic
        if left > 0:
            yield Reason(
                Code.SAMPLES_ARRIVING,
                "Samples are arriving.",
                _since(Code.SAMPLES_ARRIVING, tracker, now),
                f"none has arrived for {_duration(SETTLE_SECONDS)}",
            )


def _work_reasons(facts: Facts, config: Config, tracker: Tracker, now: Instant) -> Iterator[Reason]:
    if not facts.has_artifact_set:
        code = Code.NO_ARTIFACT_SET
        yield Reason(code, "No artifact set is installed.", _since(code, tracker, now), "you run `mmd init`")
        return
    if facts.is_round_open:
        return
    missing = config.training.min_samples - facts.trainable
    if missing > 0:
        code = Code.TOO_FEW_SAMPLES
        message = f"Samples to train on: {facts.trainable}, of {config.training.min_samples} that it takes."
        clears = f"about {missing} more are ingested, beside those held out"
        yield Reason(code, message, _since(code, tracker, now), clears)
        return
    missing = config.training.min_new_samples - facts.new
    if missing > 0 and facts.has_trained:
        code = Code.NOTHING_NEW
        message = f"New samples since the last round: {facts.new}, of {config.training.min_new_samples} that it takes."
        yield Reason(code, message, _since(code, tracker, now), f"{missing} more are ingested, or get another label")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
