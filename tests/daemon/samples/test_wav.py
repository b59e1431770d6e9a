"""Is every kind of WAV file read rightly, and every damaged one refused before anything is made of it?"""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sounds import tone, wav_bytes

from mmd.errors import InputRefused
from mmd.samples.recording import Limits, Recording
from mmd.samples.wav import read_wav

SOUND = tone(440.0, rate_hz=8000, seconds=0.05)


def read(data: bytes, *, max_seconds: float = 10.0) -> Recording:
    return read_wav(io.BytesIO(data), Limits(max_seconds))


@pytest.mark.parametrize(
    ("kind", "step"), [("u1", 2**-7), ("i2", 2**-15), ("i3", 2**-23), ("i4", 2**-24), ("f4", 2**-24), ("f8", 2**-24)]
)
@pytest.mark.parametrize("extensible", [False, True])
def test_each_kind_of_number_gives_the_same_sound(kind: str, step: float, extensible: bool) -> None:
    recording = read(wav_bytes(SOUND, 8000, kind=kind, extensible=extensible))
    assert recording.rate_hz == 8000
    assert recording.waveform.dtype == np.float32
    np.testing.assert_allclose(recording.waveform, SOUND, atol=step)


def test_channels_are_averaged() -> None:
    recording = read(wav_bytes(np.stack([SOUND, np.zeros_like(SOUND)], axis=1), 8000, kind="f4"))
    np.testing.assert_allclose(recording.waveform, SOUND / 2, atol=1e-7)


def test_the_lowest_number_of_16_bits_is_minus_one() -> None:
    assert read(wav_bytes(np.array([-1.0, 0.5]))).waveform.tolist() == [-1.0, 0.5]


@pytest.mark.parametrize("length", [8, 12, 20, 30, 60, 200])
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(InputRefused, match=r"truncated|cut short|without sound|damaged"):
        read(wav_bytes(SOUND)[:length])


def _with(data: bytes, place: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, place, value)
    return bytes(changed)


WHOLE = wav_bytes(SOUND)
CODING, CHANNELS, RATE, FRAME_BYTES, BITS = 20, 22, 24, 32, 34
DATA_SIZE = WHOLE.index(b"data") + 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_with(WHOLE, DATA_SIZE, "<I", 4_000_000_000), "truncated .*bytes are missing"),
        (_with(WHOLE, DATA_SIZE, "<I", 0), "holds no sound"),
        (_with(WHOLE, DATA_SIZE, "<I", 3), "no whole number of frames"),
        (_with(WHOLE, CODING, "<H", 6), "holds A-law"),
        (_with(WHOLE, CODING, "<H", 0x7777), "coding 0x7777"),
        (_with(WHOLE, CHANNELS, "<H", 0), "0 channels"),
        (_with(WHOLE, CHANNELS, "<H", 60000), "60000 channels"),
        (_with(WHOLE, RATE, "<I", 0), "holds no sound"),
        (_with(WHOLE, BITS, "<H", 13), "13-bit whole numbers"),
        (_with(WHOLE, FRAME_BYTES, "<H", 7), "in 7 bytes"),
        (WHOLE.replace(b"fmt ", b"junk"), "its format is missing"),
        (WHOLE.replace(b"data", b"junk"), "ends before its sound"),
        (WHOLE.replace(b"WAVE", b"AVI "), "RIFF file without sound"),
        (wav_bytes(np.zeros(0)), "holds no sound"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(InputRefused, match=message) as refusal:
        read(data)
    assert "\n" not in str(refusal.value)


def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputRefused, match=r"is 2\.0 s long.*samples\.max_seconds"):
        read(wav_bytes(np.zeros(8000)), max_seconds=1.0)


def test_a_file_of_endless_empty_chunks_ends() -> None:
    data = b"RIFF\xff\xff\xff\xffWAVE" + b"abcd\x00\x00\x00\x00" * 100_000
    with pytest.raises(InputRefused, match="truncated"):
        read(data)


@settings(max_examples=300, deadline=None)
@given(places=st.lists(st.tuples(st.integers(8, 79), st.integers(0, 255)), max_size=6), end=st.integers(0, len(WHOLE)))
def test_no_damage_does_anything_but_give_a_sound_or_be_refused(places: list[tuple[int, int]], end: int) -> None:
    data = bytearray(WHOLE)
    for place, value in places:
        data[place] = value
    try:
        recording = read(bytes(data[:end]))
    except InputRefused as refusal:
        assert "\n" not in str(refusal)
    else:
        assert recording.waveform.dtype == np.float32
        assert 0 < len(recording.waveform) <= 10 * recording.rate_hz
