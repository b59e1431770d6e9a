"""Which stranger becomes the demonstration's owner, and how do the digits become pictures?"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.durable import make_folder
from mmd.errors import UsageError
from mmd_tools.prepare_digits import SPLITS, digits_of
from mmd_tools.recipe import InputRecipe
from mmd_tools.train_score import Scorer


@dataclass(frozen=True)
class StrangerScore:
    """How well both networks read all digits of one stranger."""

    writer: int
    digits: int
    mentee: float
    mentor: float


def write_pictures(images: NDArray[np.uint8], labels: NDArray[np.int64], out: Path) -> None:
    """Write `out`/LABEL/NN.png for each image [n, 1, height, width]. Raises `UsageError` when `out` has anything."""
    from PIL import Image

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; name another.")
    counts: Counter[int] = Counter()
    for image, label in zip(images, labels.tolist(), strict=True):
        counts[label] += 1
        folder = out / str(label)
        make_folder(folder.absolute())
        Image.fromarray(image[0]).save(folder / f"{counts[label]:02}.png", optimize=True)


def score_strangers(
    arrays: dict[str, NDArray[Any]], mentee: Path, mentor: Path, spec: InputRecipe, *, at_least: int
) -> list[StrangerScore]:
    """Score the strangers with enough digits; those whom the Mentee reads worst come first."""
    small, big = Scorer(mentee, spec), Scorer(mentor, spec)
    writers = arrays["writers"][arrays["split"] == SPLITS.index("strangers")]
    scores = []
    for writer, count in zip(*np.unique(writers, return_counts=True), strict=True):
        if count >= at_least:
            images, labels = digits_of(arrays, int(writer))
            scores.append(
                StrangerScore(int(writer), int(count), small.accuracy(images, labels), big.accuracy(images, labels))
            )
    return sorted(scores, key=lambda score: (score.mentee, score.writer))
