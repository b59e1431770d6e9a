"""Are the features those of the HTK Book? Held against the definition, written out here in numpy and doubles."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mmd_tools.audio.features import feature_shape, mel_filters, preprocess_graph, recipe_preprocessing
from mmd_tools.recipe import AudioRecipe, InputRecipe

SPEECH = AudioRecipe(rate_hz=8000, hop_ms=20.0, mels=32, low_hz=60.0, high_hz=3800.0, log_offset=1e-9)
WIDE = AudioRecipe()
ODD = AudioRecipe(rate_hz=11025, seconds=0.3, window_ms=25.0, hop_ms=10.0, mels=20, low_hz=0.0, high_hz=5512.5)


def reference(stored: NDArray[np.int16], audio: AudioRecipe) -> NDArray[np.float64]:
    """Log-mel features of one recording [length], as [mels, frames]."""
    window, hop = round(audio.window_ms * audio.rate_hz / 1000), round(audio.hop_ms * audio.rate_hz / 1000)
    fft = 1
    while fft < window:
        fft *= 2
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / window) for n in range(window)])
    edges = [
        audio_mel(audio.low_hz) + k * (audio_mel(audio.high_hz) - audio_mel(audio.low_hz)) / (audio.mels + 1)
        for k in range(audio.mels + 2)
    ]
    hertz = [700 * (10 ** (mel / 2595) - 1) for mel in edges]
    columns = []
    for start in range(0, len(stored) - window + 1, hop):
        frame = stored[start : start + window] / 32768 * hann / hann.sum()
        power = np.abs(np.fft.rfft(frame, fft)) ** 2
        column = []
        for left, middle, right in zip(hertz, hertz[1:], hertz[2:], strict=False):
            total = 0.0
            for index, value in enumerate(power):
                at = index * audio.rate_hz / fft
                if left < at <= middle:
                    total += value * (at - left) / (middle - left)
                elif middle < at < right:
                    total += value * (right - at) / (right - middle)
            column.append(np.log(total + audio.log_offset))
        columns.append(column)
    return np.array(columns).T


def audio_mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))


@pytest.mark.parametrize("audio", [SPEECH, WIDE, ODD], ids=["speech", "wide", "odd"])
def test_the_graph_computes_the_definition(audio: AudioRecipe) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(audio.length) / audio.rate_hz
    chirp = 8000 * np.sin(2 * np.pi * (200 + 900 * time) * time) + rng.normal(0, 300, audio.length)
    stored = np.stack([chirp.astype(np.int16), np.zeros(audio.length, np.int16)])
    features = recipe_preprocessing(InputRecipe(kind="audio", audio=audio))(stored)
    assert features.shape == (2, *feature_shape(audio))
    for row, recording in zip(features, stored, strict=True):
        np.testing.assert_allclose(row[0], reference(recording, audio), atol=2e-3)


def test_a_kilohertz_is_a_thousand_mel() -> None:
    assert audio_mel(1000.0) == pytest.approx(1000.0, abs=0.1)


def test_neighbouring_filters_sum_to_one_between_the_outermost_peaks() -> None:
    used, filters = mel_filters(WIDE)
    hertz = used * WIDE.rate_hz / WIDE.fft
    peaks = hertz[filters.argmax(axis=1)]
    inner = (hertz > peaks[0] + 30) & (hertz < peaks[-1] - 300)
    np.testing.assert_allclose(filters[:, inner].sum(axis=0), 1.0, atol=1e-9)


def test_a_recording_has_the_same_features_alone_and_among_others() -> None:
    stored = np.random.default_rng(0).integers(-9000, 9000, (40, SPEECH.length)).astype(np.int16)
    preprocessing = recipe_preprocessing(InputRecipe(kind="audio", audio=SPEECH))
    together = preprocessing(stored)
    for place in (0, 31, 32, 39):
        assert np.array_equal(preprocessing(stored[[place]])[0], together[place])


def test_no_recordings_have_no_features() -> None:
    none = recipe_preprocessing(InputRecipe(kind="audio", audio=SPEECH))(np.zeros((0, SPEECH.length), np.int16))
    assert none.shape == (0, *feature_shape(SPEECH))


def test_the_graph_is_plain_onnx_and_small() -> None:
    model = preprocess_graph(SPEECH)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not any(node.domain for node in model.graph.node)
    assert model.ByteSize() < 300_000
