"""May a trainer that failed be tried again, and when? More patience after every failure, afresh after progress."""

from collections.abc import Sequence

RETRY_SECONDS = (1.0, 5.0, 30.0, 120.0)
"""How long to wait after the first, second, ... failure without progress; one more gives the round up."""
PUT_OFF_SECONDS = 30.0
"""Long beside the patience with which each attempt waits for its turn: meanwhile the daemon answers nobody."""


class Retries:
    """The failures of the open round."""

    def __init__(self, waits: Sequence[float] = RETRY_SECONDS) -> None:
        self._waits = waits
        self._furthest_step = -1
        self.failures = 0
        """In a row, without progress between them."""
        self.retry_at: float | None = None
        """Monotonic time before which nothing is tried."""
        self.message = ""
        """What the last failure said."""
        self.is_put_off = False
        """Nothing failed; the next attempt waits for somebody else."""

    def note(self, message: str, step: int, now: float) -> None:
        """Count one failure at `step`; a round that got further than at the last one starts to count anew."""
        if step > self._furthest_step >= 0:
            self.failures = 0
        self._furthest_step = max(step, self._furthest_step)
        self.failures += 1
        self.message, self.is_put_off = message, False
        self.retry_at = now + self._waits[min(self.failures, len(self._waits)) - 1]

    def put_off(self, now: float) -> None:
        """Try again after a while, and count no failure."""
        self.retry_at, self.is_put_off = now + PUT_OFF_SECONDS, True

    @property
    def is_hopeless(self) -> bool:
        return self.failures > len(self._waits)

    def account(self) -> str:
        """Say how it went, for the record of a round that is given up."""
        if self.failures <= 1:
            return self.message
        return f"The trainer failed {self.failures} times without progress; the last time: {self.message}"

    def forget(self) -> None:
        """Begin with the next round."""
        self._furthest_step, self.failures, self.retry_at = -1, 0, None
        self.is_put_off = False
