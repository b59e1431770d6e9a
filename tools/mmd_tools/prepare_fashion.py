"""Which garments are trained on? Reads Fashion-MNIST's four files, and splits its training pictures.

Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv:1708.07747; MIT) is stored as MNIST is: a magic number with the number of
dimensions, the sizes as big-endian int32, then bytes.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd_tools.train_data import Part

TRAIN_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
SPLITS = ("train", "validation", "anchor")
VALIDATION_EVERY, ANCHOR_EVERY = 12, 60
"""Of the training pictures, which come in no order: every 12th validates, and the one after every 60th is anchor."""

SIDE, CLASSES = 28, 10
_MAGIC = {1: b"\x00\x00\x08\x01", 3: b"\x00\x00\x08\x03"}


def read_garments(folder: Path) -> Part:
    """Return the pictures [n, 1, 28, 28] and classes of the training files. Raises `InputRefused` for others."""
    return _read_pair(folder, TRAIN_FILES)


def read_test_garments(folder: Path) -> Part:
    """Return those of the test files: no network of this project is trained or chosen on them."""
    return _read_pair(folder, TEST_FILES)


def split_by_place(count: int) -> NDArray[np.uint8]:
    """Return the index in `SPLITS` of each of `count` training pictures."""
    places = np.arange(count)
    split = np.full(count, SPLITS.index("train"), np.uint8)
    split[places % VALIDATION_EVERY == 0] = SPLITS.index("validation")
    split[places % ANCHOR_EVERY == 1] = SPLITS.index("anchor")
    return split


def _read_pair(folder: Path, names: tuple[str, str]) -> Part:
    pictures, labels = _read_idx(folder / names[0], 3), _read_idx(folder / names[1], 1)
    if len(pictures) != len(labels) or pictures.shape[1:] != (SIDE, SIDE) or (labels >= CLASSES).any():
        raise InputRefused(f"{names[0]} and {names[1]} in {folder} do not belong together; use Fashion-MNIST's.")
    return Part(pictures[:, None], labels.astype(np.int64))


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputRefused(f"Cannot read {path}: {reason}; artifacts/fashion/README.md says where it is.") from error
    head = 4 * (1 + dimensions)
    sizes = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, head, 4)]
    if raw[:4] != _MAGIC[dimensions] or len(raw) - head != math.prod(sizes):
        raise InputRefused(f"{path} holds no array of bytes with {dimensions} dimensions; use Fashion-MNIST's file.")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(sizes)
