"""Since when does each condition meet its start level, and since when does each reason hold? A pure fold.

A condition that starts to meet its level counts only after it did so for its dwell without a break; one that never
failed while the daemon looked counts at once. After the machine slept every dwell begins anew: nobody looked meanwhile,
and whoever woke it may be about to use it.
"""

import math
from collections.abc import Iterable, Mapping

import msgspec

from mmd.conditions import Conditions, Instant
from mmd.limits import ConditionsConfig
from mmd.policy.levels import LEVELS, standing
from mmd.policy.reasons import Code, Reason

SLEEP_SLACK_SECONDS = 1.0
"""The two clocks are not read at the same instant."""


class Tracker(msgspec.Struct, frozen=True):
    """What must be remembered between two looks, in monotonic seconds."""

    met_since: Mapping[str, float | None] = {}
    """By condition; `None` while its start level is not met, minus infinity when it always was."""
    reason_since: Mapping[Code, float] = {}
    asleep: float | None = None
    """For how long the machine had slept at the last look."""


def look(tracker: Tracker, conditions: Conditions, limits: ConditionsConfig) -> Tracker:
    """Fold one look at the board into the tracker."""
    now = conditions.at.monotonic
    has_slept = tracker.asleep is not None and conditions.at.asleep - tracker.asleep > SLEEP_SLACK_SECONDS
    met_since: dict[str, float | None] = {}
    for name in LEVELS:
        if not standing(name, conditions, limits).meets_start:
            met_since[name] = None
        elif name not in tracker.met_since:
            met_since[name] = -math.inf
        else:
            earlier = tracker.met_since[name]
            met_since[name] = now if earlier is None or has_slept else earlier
    return Tracker(met_since=met_since, reason_since=tracker.reason_since, asleep=conditions.at.asleep)


def remember(tracker: Tracker, reasons: Iterable[Reason], now: Instant) -> Tracker:
    """Keep since when each of `reasons` holds, and forget those that hold no more."""
    since = {reason.code: tracker.reason_since.get(reason.code, now.monotonic) for reason in reasons}
    return msgspec.structs.replace(tracker, reason_since=since)
