"""Does this round keep what the Mentor says, or run it in every step? Pure; decided once, and frozen in the plan."""

from dataclasses import dataclass

from mmd.errors import TrainingFailed
from mmd.training.feeds import Variant

_MIB = 2**20


@dataclass(frozen=True)
class Costs:
    """What both ways would take."""

    asking_seconds: float
    """Of the Mentor, for one row."""
    reading_seconds: float
    """To read what it said about one row."""
    unasked: int
    """Rows that it has not been asked about."""
    drawn: int
    """Rows in all batches of the round."""
    cache_bytes: int
    """What the cache would hold."""
    room_bytes: float
    fused_bytes: int
    """Memory of a step with the Mentor in it."""
    memory_bytes: float
    """That the trainer may take."""

    @property
    def cached_seconds(self) -> float:
        return self.unasked * self.asking_seconds + self.drawn * self.reading_seconds

    @property
    def fused_seconds(self) -> float:
        return self.drawn * self.asking_seconds


def choose_variant(costs: Costs) -> tuple[Variant, str]:
    """Return the variant and the reason, a sentence for the owner.

    Raises `TrainingFailed` when there is neither room for the one nor memory for the other.
    """
    size = f"{costs.cache_bytes / _MIB:.1f} MiB"
    fits_memory = costs.fused_bytes <= costs.memory_bytes
    if costs.cache_bytes > costs.room_bytes:
        room = f"training.cache_mib allows {costs.room_bytes / _MIB:g}"
        if not fits_memory:
            raise TrainingFailed(
                f"What the Mentor says would take {size} and {room}; running it in every step would take "
                f"{costs.fused_bytes / _MIB:.0f} MiB of memory, more than the trainer may have. Raise one of them."
            )
        return "fused", f"What the Mentor says would take {size} and {room}, so it runs in every step."
    times = f"{costs.cached_seconds:.1f} s against {costs.fused_seconds:.1f} s for running it in every step"
    if costs.cached_seconds <= costs.fused_seconds:
        return "cached", f"What the Mentor says is kept ({size}): {times}."
    if not fits_memory:
        return "cached", f"What the Mentor says is kept ({size}): there is no memory to run it in every step."
    return "fused", f"The Mentor runs in every step: keeping what it says would take longer ({times})."
