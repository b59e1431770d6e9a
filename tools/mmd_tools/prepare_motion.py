"""Who did which exercise? Reads the wrist recordings that come with seglearn, and cuts them into windows.

The file is a pickled dictionary: 140 recordings of ten people at 50 Hz, six channels (acceleration, angular velocity),
seven shoulder exercises. (D. M. Burns et al., "Shoulder physiotherapy exercise recognition: machine learning the
inertial signals from a smartwatch", Physiological Measurement 39(7), 2018; BSD, with seglearn.)
"""

import pickle
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd_tools.prepare_digits import ArraysOnly
from mmd_tools.recipe import Recipe
from mmd_tools.takes import Takes

NAME = "watch_dataset.npy"
STEPS, RATE_HZ = 200, 50
CHANNELS = 6


def read_motion(folder: Path, recipe: Recipe) -> Takes:
    """Return windows [n, 6, 1, 200] of 4 s that do not overlap. Raises `InputRefused` for another file."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            npy.read_magic(file)
            npy.read_array_header_1_0(file)
            held = ArraysOnly(file).load().item()
        recordings = [np.asarray(each, np.float32) for each in held["X"]]
        labels, people = np.asarray(held["y"], np.int64), np.asarray(held["subject"], np.int64)
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputRefused(f"Cannot read {path}: {reason}; the file is inside the package seglearn 1.2.5.") from error
    if len(recipe.classes) != labels.max() + 1 or any(each.shape[1:] != (CHANNELS,) for each in recordings):
        raise InputRefused(f"{path} is not seglearn's; the file is inside the package seglearn 1.2.5.")
    cut = [_windows(each) for each in recordings]
    counts = [len(each) for each in cut]
    names = np.array([f"person {number:02}" for number in people.tolist()])
    return Takes.ordered(np.concatenate(cut), np.repeat(labels, counts), np.repeat(names, counts))


def _windows(recording: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [n, channels, 1, STEPS] of [steps, channels]."""
    count = len(recording) // STEPS
    whole = recording[: count * STEPS].reshape(count, STEPS, 1, CHANNELS)
    return np.ascontiguousarray(whole.transpose(0, 3, 2, 1))
