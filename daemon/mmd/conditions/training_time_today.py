"""For how many minutes has training run since midnight?"""

from mmd.conditions.reading import Reading
from mmd.conditions.usage import Usage


def read(usage: Usage) -> Reading[float]:
    return Reading(usage.minutes_trained_today, "since midnight")
