"""Who said which digit? Reads the recordings of the Free Spoken Digit Dataset.

The recordings are called DIGIT_SPEAKER_TAKE.wav, in whatever folders. They are decoded as `mmd ingest` decodes them, so
that networks are trained on what boards will store.
"""

import re
from pathlib import Path

import numpy as np

from mmd.errors import InputRefused, UsageError
from mmd.samples.find import opened
from mmd.samples.form import SampleForm
from mmd.samples.recording import decode_recording
from mmd_tools.audio.resample import recipe_resampler
from mmd_tools.recipe import Recipe
from mmd_tools.takes import Takes

MAX_SECONDS = 10.0
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


def read_speech(folder: Path, recipe: Recipe) -> Takes:
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
    speakers, _, digits, _ = zip(*sorted(found), strict=True)
    stored = np.frombuffer(b"".join(inputs), np.int16).reshape(-1, audio.length)
    return Takes.ordered(stored, np.array(digits, np.int64), np.array(speakers))
