"""How much energy has the board used since midnight while it trained, in watt-hours? `None` without a power meter."""

from mmd.conditions.reading import Reading
from mmd.conditions.usage import Usage


def read(usage: Usage) -> Reading[float]:
    if usage.watt_hours_today is None:
        return Reading(None, "no power meter")
    return Reading(usage.watt_hours_today, "since midnight, while training ran")
