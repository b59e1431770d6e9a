"""What is a network trained on? An .npz of stored inputs, labels, and a split that names who belongs where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd_tools.archive import read_archive

REQUIRED = ("inputs", "labels", "split", "splits")


@dataclass(frozen=True)
class Part:
    """One split of the data."""

    inputs: NDArray[np.generic]
    """[n, *shape], as stored: before scale, mean and std."""
    labels: NDArray[np.int64]


def read_prepared(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of `path`. Raises `InputRefused` naming what is missing."""
    arrays = read_archive(
        path, lambda reason: InputRefused(f"Cannot read the data {path}: {reason}; `mmd-tools prepare` makes it.")
    )
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise InputRefused(f"The data {path} has no array `{missing[0]}`; `mmd-tools prepare` makes it.")
    sizes = {len(arrays[name]) for name in ("inputs", "labels", "split")}
    if len(sizes) != 1:
        raise InputRefused(f"The data {path} has inputs, labels and split of different lengths; make it again.")
    return arrays


def part(arrays: dict[str, NDArray[Any]], name: str) -> Part:
    """Return the split `name`. Raises `InputRefused` when it is not there or empty."""
    names = [str(each) for each in arrays["splits"]]
    chosen = arrays["split"] == names.index(name) if name in names else np.zeros(len(arrays["split"]), np.bool_)
    if not chosen.any():
        raise InputRefused(f"The data has no split `{name}`; it has {', '.join(names) or 'none'}.")
    return Part(arrays["inputs"][chosen], arrays["labels"][chosen].astype(np.int64))
