"""Does a recording end as one stored sample, or as one line that says why not?"""

import io

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.sounds import CLASSES, tone, wav_bytes

from mmd.errors import InputRefused
from mmd.samples import recording
from mmd.samples.form import SampleForm
from mmd.samples.recording import decode_recording

FORM = SampleForm("audio", (100,), CLASSES, 8000.0)
SOUND = tone(440.0, rate_hz=8000, seconds=0.05)


def first_hundred(waveform: NDArray[np.float32], rate_hz: int) -> NDArray[np.int16]:
    assert rate_hz == 8000
    return np.rint(waveform[:100] * 32767).astype(np.int16)


def decoded(data: bytes, *, max_seconds: float = 10.0) -> NDArray[np.int16]:
    return np.frombuffer(decode_recording(io.BytesIO(data), FORM, first_hundred, max_seconds=max_seconds), np.int16)


def flac_bytes(values: NDArray[np.float64], *, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, 8000, format="FLAC", subtype=subtype)
    return buffer.getvalue()


def test_flac_gives_the_sample_that_wav_gives() -> None:
    assert np.array_equal(decoded(flac_bytes(SOUND)), decoded(wav_bytes(SOUND, 8000)))


def test_24_bit_stereo_flac_is_read() -> None:
    stereo = np.stack([SOUND, SOUND], axis=1)
    assert np.abs(decoded(flac_bytes(stereo, subtype="PCM_24")) - decoded(wav_bytes(SOUND, 8000))).max() <= 1


@pytest.mark.parametrize("length", [4, 20, 60, 200])
def test_a_flac_file_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(InputRefused, match=r"truncated|damaged|no sound"):
        decoded(flac_bytes(np.random.default_rng(0).uniform(-0.5, 0.5, 4000))[:length])


def test_a_flac_file_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"samples\.max_seconds"):
        decoded(flac_bytes(np.zeros(16000)), max_seconds=1.0)


def test_flac_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = flac_bytes(SOUND)
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(InputRefused, match=r"mmd-daemon\[flac\]"):
        decoded(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"a text about sounds", "looks like text"),
        (b"\x89PNG\r\n\x1a\n", "begins with bytes 89 50 4e 47"),
        (wav_bytes(np.array([0.0, np.nan]), kind="f4"), "not finite"),
        (wav_bytes(np.array([0.0, np.inf]), kind="f8"), "not finite"),
        (wav_bytes(np.array([0.0, 32767.0]), kind="f4"), "values up to 32767"),
    ],
)
def test_what_is_no_sound_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(InputRefused, match=message) as refusal:
        decoded(data)
    assert "\n" not in str(refusal.value)


def test_more_values_than_a_board_can_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_MOST_VALUES", 100)
    with pytest.raises(InputRefused, match="at most 10 s and 100 values"):
        decoded(wav_bytes(SOUND, 8000))
