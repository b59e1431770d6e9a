"""Do real words keep apart on their way from a WAV file to features? Spoken by people, not made of sines."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tools.audio.test_features import SPEECH

from mmd.artifact.preprocess import Resampler
from mmd.samples.form import SampleForm
from mmd.samples.recording import decode_recording
from mmd_tools.audio.features import recipe_preprocessing
from mmd_tools.audio.resample import resample_graph
from mmd_tools.recipe import InputRecipe

PATHS = sorted((Path(__file__).parent / "recordings").glob("*.wav"))
FORM = SampleForm("audio", (SPEECH.length,), ("1", "2"), rate_hz=SPEECH.rate_hz)


@pytest.fixture(scope="module")
def stored() -> NDArray[np.int16]:
    """What a board keeps of each recording, [16, length]."""
    resample = Resampler(resample_graph(SPEECH.length).SerializeToString(), SPEECH.rate_hz)
    contents = []
    for path in PATHS:
        with path.open("rb") as file:
            contents.append(decode_recording(file, FORM, resample, max_seconds=60.0))
    return np.stack([np.frombuffer(content, np.int16) for content in contents])


def test_every_number_of_a_recording_at_the_sets_rate_is_kept(stored: NDArray[np.int16]) -> None:
    for path, content in zip(PATHS, stored, strict=True):
        recorded = np.frombuffer(path.read_bytes()[44:], "<i2")  # after the header of a plain WAV file
        spoken = recorded[np.flatnonzero(recorded)[0] : np.flatnonzero(recorded)[-1] + 1]
        kept = content[np.flatnonzero(content)[0] : np.flatnonzero(content)[-1] + 1]
        np.testing.assert_array_equal(kept, spoken)


def test_the_nearest_other_recording_of_a_speaker_is_the_same_word(stored: NDArray[np.int16]) -> None:
    features = recipe_preprocessing(InputRecipe(kind="audio", audio=SPEECH))(stored).reshape(len(PATHS), -1)
    words, speakers = (np.array([path.stem.split("_")[part] for path in PATHS]) for part in (0, 1))
    right = 0
    for place in range(len(PATHS)):
        gaps = np.linalg.norm(features - features[place], axis=1)
        gaps[(speakers != speakers[place]) | (np.arange(len(PATHS)) == place)] = np.inf
        right += words[gaps.argmin()] == words[place]
    assert right >= 15, "of 16; by chance it would be 7 of 16"
