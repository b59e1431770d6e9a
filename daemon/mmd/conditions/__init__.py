"""What can the board feel? One file a condition, and all of them together in `Conditions`."""

from mmd.conditions.reading import Instant, Reading
from mmd.conditions.sense import Conditions, sense
from mmd.conditions.usage import Usage

__all__ = [
    "Conditions",
    "Instant",
    "Reading",
    "Usage",
    "sense",
]
