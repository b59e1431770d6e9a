"""For how long has the trainer been running without an interruption, in minutes?"""

from mmd.conditions.reading import Reading
from mmd.conditions.usage import Usage


def read(usage: Usage) -> Reading[float]:
    return Reading(max(0.0, usage.run_seconds) / 60, "the run of the moment")
