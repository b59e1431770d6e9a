"""How much room is left on the file system of the state folder, in MiB?"""

import os
from pathlib import Path

from mmd.conditions.reading import Reading

MIB = 1024 * 1024


def read(state_folder: Path) -> Reading[float]:
    """Return what a plain user may still write; blocks reserved for root do not count."""
    try:
        status = os.statvfs(state_folder)
    except OSError as error:
        return Reading(None, "unknown", (f"{state_folder} cannot be looked at: {error.strerror}",))
    return Reading(status.f_bavail * status.f_frsize / MIB, "the file system of the state folder")
