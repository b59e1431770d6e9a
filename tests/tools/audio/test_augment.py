"""Are recordings varied as far as the recipe says, and not at all where it says nothing?"""

import numpy as np
import pytest
from tests.sounds import tone

from mmd_tools.audio.augment import augment_recordings, mask_features
from mmd_tools.nets import AudioAugmentRecipe

RATE_HZ = 8000
STORED = np.stack([np.rint(8000 * tone(hertz, rate_hz=RATE_HZ, seconds=1.0)) for hertz in (500, 1000)]).astype(np.int16)


def varied(recipe: AudioAugmentRecipe, seed: int = 0) -> np.ndarray:
    return augment_recordings(STORED, recipe, RATE_HZ, np.random.default_rng(seed))


def peak_hertz(waveform: np.ndarray) -> int:
    return int(np.abs(np.fft.rfft(waveform.astype(np.float64))).argmax())


def test_a_recipe_of_zeros_changes_nothing() -> None:
    assert np.array_equal(varied(AudioAugmentRecipe()), STORED)


@pytest.mark.parametrize("key", ["speed", "shift_ms", "gain_db", "tilt_db", "noise_db"])
def test_each_key_changes_recordings_by_the_seed_alone(key: str) -> None:
    recipe = AudioAugmentRecipe(**{key: 0.3 if key == "speed" else 30.0})
    changed = varied(recipe)
    assert not np.array_equal(changed, STORED)
    assert np.array_equal(changed, varied(recipe))
    assert not np.array_equal(changed, varied(recipe, seed=1))


def test_speed_moves_the_pitch_within_its_bounds() -> None:
    pitches = [peak_hertz(row) for seed in range(10) for row in varied(AudioAugmentRecipe(speed=0.2), seed)[:1]]
    assert min(pitches) >= 500 * np.exp(-0.21)
    assert max(pitches) <= 500 * np.exp(0.21)
    assert len(set(pitches)) > 5


def test_a_loud_recording_is_clipped_and_never_wraps() -> None:
    loud = np.full((1, 800), 30000, np.int16)
    changed = augment_recordings(loud, AudioAugmentRecipe(gain_db=40.0), RATE_HZ, np.random.default_rng(3))
    assert changed.min() >= 0


def test_masks_cover_no_more_than_they_may() -> None:
    features = np.random.default_rng(0).normal(size=(20, 1, 16, 30)).astype(np.float32)
    masked = mask_features(features, AudioAugmentRecipe(mask_frames=5, mask_mels=3), np.random.default_rng(0))
    for before, after in zip(features, masked, strict=True):
        changed = before[0] != after[0]
        assert changed.all(axis=0).sum() <= 5
        assert changed.all(axis=1).sum() <= 3
    assert (masked != features).any()
    assert mask_features(features, AudioAugmentRecipe(), np.random.default_rng(0)) is features
