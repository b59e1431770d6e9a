"""What can the board feel? One file a condition, and all of them together in `Conditions`."""

from mmd.conditions.reading import Instant, Reading
from mmd.conditions.sense import Conditions, sense

__all__ = ["Conditions", "Instant", "Reading", "sense"]
