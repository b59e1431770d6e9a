"""Who said which digit? Reads the recordings of the Free Spoken Digit Dataset and splits them by speaker and take.

The recordings are called DIGIT_SPEAKER_TAKE.wav, in whatever folders. They are decoded as `mmd ingest` decodes them, so
that networks are trained on what boards will store.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmd.errors import InputRefused, UsageError
from mmd.samples.find import opened
from mmd.samples.form import SampleForm
from mmd.samples.recording import decode_recording
from mmd_tools.audio.resample import recipe_resampler
from mmd_tools.recipe import Recipe

SPLITS = ("train", "validation", "anchor", "strangers")
ANCHOR_TAKES, VALIDATION_TAKES = 10, 5
"""The first takes of every digit are for the anchor set, the next for validation, the others for training."""
MAX_SECONDS = 10.0
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


@dataclass(frozen=True)
class Speech:
    """Recordings as a board would store them, ordered by speaker, take and digit."""

    inputs: NDArray[np.int16]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]
    takes: NDArray[np.int64]
    """From 0, by speaker and digit."""


def read_speech(folder: Path, recipe: Recipe) -> Speech:
    """Read every recording under `folder`. Raises `InputRefused` naming the first that cannot be read."""
    audio = recipe.input.audio
    if audio is None:
        raise UsageError("The recipe has no [input.audio]; speech needs it.")
    form = SampleForm("audio", (audio.length,), recipe.classes, audio.rate_hz)
    resample = recipe_resampler(audio)
    found = []
    for path in folder.rglob("*.wav"):
        named = _NAME.fullmatch(path.name)
        if named:
            found.append((named[2], int(named[3]), int(named[1]), path))
    if not found:
        raise InputRefused(f"There is no recording DIGIT_SPEAKER_TAKE.wav in {folder}; name the folder of the dataset.")
    inputs = []
    for *_, path in sorted(found):
        try:
            with opened(path) as file:
                inputs.append(decode_recording(file, form, resample, max_seconds=MAX_SECONDS))
        except InputRefused as refusal:
            raise InputRefused(f"{path} {refusal}") from refusal
    speakers, takes, digits, _ = zip(*sorted(found), strict=True)
    stored = np.frombuffer(b"".join(inputs), np.int16).reshape(-1, audio.length)
    return Speech(stored, np.array(digits, np.int64), np.array(speakers), np.array(takes, np.int64))


def split_by_speaker(speech: Speech, stranger: str) -> NDArray[np.uint8]:
    """Return the index in `SPLITS` of every recording: all of `stranger`'s are a stranger's."""
    names = np.unique(speech.speakers).tolist()
    if stranger not in names:
        raise UsageError(f"There is no speaker `{stranger}`; there are {', '.join(names)}.")
    if len(names) < 2:
        raise UsageError(f"There is no speaker besides `{stranger}`; somebody must be left to train on.")
    split = np.full(len(speech.labels), SPLITS.index("train"), np.uint8)
    split[speech.takes < ANCHOR_TAKES + VALIDATION_TAKES] = SPLITS.index("validation")
    split[speech.takes < ANCHOR_TAKES] = SPLITS.index("anchor")
    split[speech.speakers == stranger] = SPLITS.index("strangers")
    return split


def anchor_order(speech: Speech, split: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the places of the anchor set: even takes at the even ones, for replay; odd takes at the odd ones."""
    places = np.flatnonzero(split == SPLITS.index("anchor"))
    halves = [places[speech.takes[places] % 2 == parity] for parity in (0, 1)]
    size = min(map(len, halves))
    return np.stack([half[:size] for half in halves], axis=1).ravel()
