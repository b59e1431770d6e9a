"""How much of its share of the time has training left? A token bucket of seconds, a pure fold.

The bucket fills at `share_percent` of the time up to `burst_minutes`, and empties at one second a second while the
trainer runs. It is full when the daemon starts.
"""

import msgspec

from mmd.conditions import Instant
from mmd.limits import DutyCycle


class TokenBucket(msgspec.Struct, frozen=True):
    seconds: float
    """Of training that are left."""
    at: float
    """Monotonic."""

    def percent(self, limits: DutyCycle) -> float:
        """Return how full it is."""
        return 100.0 * self.seconds / (limits.burst_minutes * 60)


def turn(bucket: TokenBucket | None, limits: DutyCycle, now: Instant, *, was_running: bool) -> TokenBucket:
    """Return the bucket as it is now; `was_running` says what the trainer did since the bucket was last turned."""
    most = limits.burst_minutes * 60
    if bucket is None:
        return TokenBucket(most, now.monotonic)
    passed = max(0.0, now.monotonic - bucket.at)
    change = passed * (limits.share_percent / 100 - was_running)
    return TokenBucket(min(most, max(0.0, bucket.seconds + change)), now.monotonic)
