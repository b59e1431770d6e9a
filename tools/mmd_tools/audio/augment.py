"""How is a recording varied, so that no epoch hears the same one twice? Speed, place, loudness, colour, noise, gaps."""

import numpy as np
from numpy.typing import NDArray

from mmd_tools.nets import AudioAugmentRecipe

Floats = NDArray[np.float32]
QUIETEST_NOISE_DB = -50.0
_FULL = 32767


def augment_recordings(
    stored: NDArray[np.generic], recipe: AudioAugmentRecipe, rate_hz: int, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return recordings [n, length], changed as `recipe` allows. A recipe of zeros returns them as they are."""
    if not any((recipe.speed, recipe.shift_ms, recipe.gain_db, recipe.tilt_db, recipe.noise_db)):
        return stored.astype(np.int16)
    waveforms = _moved(stored.astype(np.float32), recipe, rate_hz, rng)
    waveforms = _coloured(waveforms, recipe.tilt_db, rng)
    loudness = np.sqrt((waveforms**2).mean(axis=1, keepdims=True))
    waveforms += loudness * _noise(waveforms.shape, recipe.noise_db, rng)
    waveforms *= _from_db(rng.uniform(-1, 1, (len(waveforms), 1)) * recipe.gain_db)
    return np.clip(np.rint(waveforms), -_FULL, _FULL).astype(np.int16)


def _from_db(decibels: NDArray[np.float64]) -> Floats:
    return np.asarray(10 ** (decibels / 20), np.float32)


def _moved(waveforms: Floats, recipe: AudioAugmentRecipe, rate_hz: int, rng: np.random.Generator) -> Floats:
    """Read each recording at another speed, from another place; outside there is silence."""
    count, length = waveforms.shape
    speed = np.exp(rng.uniform(-1, 1, (count, 1)) * recipe.speed)
    shift = rng.uniform(-1, 1, (count, 1)) * recipe.shift_ms * rate_hz / 1000
    middle = (length - 1) / 2
    places = (np.arange(length) - middle) * speed + middle + shift
    framed = np.pad(waveforms, ((0, 0), (1, 1)))
    places = np.clip(places + 1, 0, length + 0.999)
    left = places.astype(np.int64)
    right = (places - left).astype(np.float32)
    moved: Floats = (
        np.take_along_axis(framed, left, axis=1) * (1 - right)
        + np.take_along_axis(framed, np.minimum(left + 1, length + 1), axis=1) * right
    )
    return moved


def _coloured(waveforms: Floats, tilt_db: float, rng: np.random.Generator) -> Floats:
    if not tilt_db:
        return waveforms
    length = waveforms.shape[1]
    tilt = rng.uniform(-0.5, 0.5, (len(waveforms), 1)) * tilt_db
    gains = _from_db(tilt * np.linspace(-1, 1, length // 2 + 1))
    return np.fft.irfft(np.fft.rfft(waveforms) * gains, length).astype(np.float32)


def _noise(shape: tuple[int, ...], noise_db: float, rng: np.random.Generator) -> Floats:
    """Return noise between white and brown, whose mean square is what the recipe allows at most."""
    if not noise_db:
        return np.zeros(shape, np.float32)
    bins = np.arange(1, shape[1] // 2 + 2)
    slopes = bins ** -rng.uniform(0, 1, (shape[0], 1))
    white = np.fft.rfft(rng.standard_normal(shape))
    noise = np.fft.irfft(white * slopes, shape[1])
    noise /= np.sqrt((noise**2).mean(axis=1, keepdims=True))
    level = QUIETEST_NOISE_DB + rng.uniform(0, 1, (shape[0], 1)) * noise_db
    return (noise * _from_db(level)).astype(np.float32)


def mask_features(
    features: NDArray[np.generic], recipe: AudioAugmentRecipe, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return features [n, 1, mels, frames] with one stretch of frames and one of mels each at the sample's mean."""
    if not (recipe.mask_frames or recipe.mask_mels):
        return features
    masked = features.astype(np.float32)
    _, _, mels, frames = masked.shape
    for sample in masked:
        mean = sample.mean()
        width = int(rng.integers(0, recipe.mask_frames + 1))
        start = int(rng.integers(0, frames - width + 1))
        height = int(rng.integers(0, recipe.mask_mels + 1))
        low = int(rng.integers(0, mels - height + 1))
        sample[:, :, start : start + width] = mean
        sample[:, low : low + height] = mean
    return masked
