"""What can the board feel? One file a condition, and all of them together in `Conditions`."""

from mmd.conditions.energy import EnergyReading, read_energy, watt_hours_between
from mmd.conditions.reading import Instant, Reading
from mmd.conditions.sense import Conditions, sense
from mmd.conditions.usage import Usage

__all__ = [
    "Conditions",
    "EnergyReading",
    "Instant",
    "Reading",
    "Usage",
    "read_energy",
    "sense",
    "watt_hours_between",
]
