"""How full is the bucket of minutes that may be trained, in percent?"""

from mmd.conditions.reading import Reading
from mmd.conditions.usage import Usage


def read(usage: Usage) -> Reading[float]:
    return Reading(100.0 if usage.duty_percent is None else usage.duty_percent, "what is left of the burst")
