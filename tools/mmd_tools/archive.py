"""Which arrays does an .npz hold? Nothing in the file is run, and whatever is wrong with it is one short reason."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.errors import MmdError


def read_archive(path: Path, refusal: Callable[[str], MmdError]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `path` by name; raise what `refusal` makes of the reason why it cannot be read."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise refusal("it is a single array, not an .npz of named ones")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's own words advise to load what nobody trusts.
        raise refusal("it is not an .npz of plain arrays, or it is damaged") from error
    except OSError as error:
        raise refusal(error.strerror or "it cannot be opened") from error
