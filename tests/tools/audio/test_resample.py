"""Is a recording of any rate brought to the set's without folding anything into it, and put in its place?"""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mmd.artifact.preprocess import Resampler
from mmd.errors import InputRefused
from mmd_tools.audio.resample import resample_graph

RATE_HZ, LENGTH = 8000, 8000
NYQUIST_HZ = RATE_HZ / 2
FULL = 32768


@pytest.fixture(scope="module")
def resample() -> Resampler:
    return Resampler(resample_graph(LENGTH).SerializeToString(), RATE_HZ)


def swelling(hertz: float, rate_hz: int) -> NDArray[np.float32]:
    """A second that swells and fades: its spectrum is narrow, and its energy's centre is the middle."""
    time = np.arange(rate_hz) / rate_hz
    return (0.5 * np.sin(np.pi * time) ** 2 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def decibels(stored: NDArray[np.int16], reference: NDArray[np.float32]) -> float:
    power = float(np.mean((stored / FULL) ** 2)) / float(np.mean(reference.astype(np.float64) ** 2))
    return 10 * np.log10(power + 1e-20)


RATES = [11025, 16000, 22050, 44100, 48000, 96000]


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.85])
def test_what_fits_below_the_nyquist_frequency_passes_as_it_is(resample: Resampler, rate_hz: int, share: float) -> None:
    stored = resample(swelling(share * NYQUIST_HZ, rate_hz), rate_hz)
    reference = swelling(share * NYQUIST_HZ, RATE_HZ)
    best = min(np.abs(np.roll(stored, shift) / FULL - reference).max() for shift in (-1, 0, 1))
    assert best < 0.5 * 10 ** (-50 / 20)


@pytest.mark.parametrize("rate_hz", RATES)
def test_what_does_not_fit_is_gone_and_folds_nowhere(resample: Resampler, rate_hz: int) -> None:
    for hertz in (4100, 4200, 4500, 5000, 5400, 7000, 12000, 20000):
        if hertz < 0.98 * rate_hz / 2:
            tone = swelling(hertz, rate_hz)
            assert decibels(resample(tone, rate_hz), tone) < (-58 if hertz < 4200 else -75), hertz


def test_a_lower_rate_is_raised_without_mirror_images(resample: Resampler) -> None:
    stored = resample(swelling(1000, 4000), 4000)
    spectrum = np.abs(np.fft.rfft(stored / FULL)) ** 2
    assert 10 * np.log10(spectrum[2200:].sum() / spectrum[:2200].sum()) < -75


def test_at_the_sets_own_rate_every_number_stays(resample: Resampler) -> None:
    rng = np.random.default_rng(0)
    quarter = np.zeros(LENGTH, np.int16)
    quarter[3000:5000] = rng.integers(-9000, 9000, 2000)
    stored = resample(quarter / np.float32(FULL), RATE_HZ)
    first, last = np.flatnonzero(stored)[[0, -1]]
    assert np.array_equal(stored[first : last + 1], quarter[3000:5000])


def test_a_word_lands_in_one_place_however_long_the_silence_around_it(resample: Resampler) -> None:
    word = swelling(700, RATE_HZ)[2000:6000] * np.linspace(1, 0.2, 4000, dtype=np.float32)
    placed = [
        resample(np.concatenate([np.zeros(before, np.float32), word, np.zeros(after, np.float32)]), RATE_HZ)
        for before, after in ((0, 0), (100, 9000), (12345, 3), (30000, 30000))
    ]
    for one, other in pairwise(placed):
        assert np.array_equal(one, other)
    energy = placed[0].astype(np.float64) ** 2
    assert abs((energy * np.arange(LENGTH)).sum() / energy.sum() - (LENGTH - 1) / 2) <= 1


def test_of_a_long_recording_the_loudest_stretch_is_kept(resample: Resampler) -> None:
    quiet, loud = 0.05 * swelling(500, RATE_HZ), swelling(1500, RATE_HZ)
    stored = resample(np.concatenate([quiet, quiet, loud, quiet]), RATE_HZ)
    assert np.argmax(np.abs(np.fft.rfft(stored.astype(np.float64)))) == 1500


@pytest.mark.parametrize("frames", [1, 2, 7, LENGTH - 1, LENGTH, LENGTH + 1])
def test_every_length_gives_the_sets_length(resample: Resampler, frames: int) -> None:
    for rate_hz in (RATE_HZ, 11025, 8001):
        stored = resample(np.full(frames, 0.25, np.float32), rate_hz)
        assert (stored.shape, stored.dtype) == ((LENGTH,), np.int16)
        assert stored.any()


def test_silence_stays_silence_and_what_is_too_loud_is_clipped(resample: Resampler) -> None:
    assert not resample(np.zeros(500, np.float32), RATE_HZ).any()
    assert resample(np.full(LENGTH, 3.0, np.float32), RATE_HZ).max() == FULL - 1


@pytest.mark.parametrize("rate_hz", [0, 100, 1_000_000_000])
def test_a_rate_that_nobody_records_at_is_refused(resample: Resampler, rate_hz: int) -> None:
    with pytest.raises(InputRefused, match="samples a second"):
        resample(np.zeros(10, np.float32), rate_hz)


def test_the_graph_is_plain_onnx_of_a_known_opset() -> None:
    model = resample_graph(LENGTH)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not any(node.domain for node in model.graph.node)
