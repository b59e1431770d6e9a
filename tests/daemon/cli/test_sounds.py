"""Do recordings go the whole way on a board: taken in, trained on, and heard the same way when they are predicted?"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tests.sounds import (
    CLASSES,
    LENGTH,
    RATE_HZ,
    build_sound_set,
    tone,
    varied_tone,
    wav_bytes,
    write_tone_folders,
    write_wav,
)
from tests.support import call_mmd, class_counts
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd import Predictor
from mmd.artifact.load import open_set
from mmd.artifact.preprocess import Preprocessing
from mmd.errors import InputRefused
from mmd.samples.store import SampleStore
from mmd_tools.verify import verify

pytestmark = NEEDS_TRAINING_BUILD


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sound_set(tmp_path_factory.mktemp("sounds"))


@pytest.fixture
def state(tmp_path: Path, sound_set: Path) -> Path:
    made = tmp_path / "state"
    ran = call_mmd("init", "--set", sound_set, state=made)
    assert ran.code == 0, ran.err
    return made


def test_the_set_verifies_and_holds_both_graphs(sound_set: Path) -> None:
    failed = [check for check in verify(sound_set) if not check.passed]
    assert not failed
    spec = open_set(sound_set).manifest.input
    assert (spec.kind, spec.stored_shape, spec.rate_hz) == ("audio", (LENGTH,), RATE_HZ)
    assert {"resample.onnx", "preprocess.onnx"} <= set(open_set(sound_set).manifest.files)


def test_recordings_are_stored_with_the_labels_of_their_folders(state: Path, tmp_path: Path) -> None:
    ran = call_mmd("ingest", write_tone_folders(tmp_path / "tones", 4), state=state)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("stored 8")
    with SampleStore(state / "samples.db") as store:
        assert class_counts(store) == {"low": 4, "high": 4}
        inputs, _ = store.load(store.training_ids())
        assert (inputs.dtype, inputs.shape[1:]) == (np.int16, (LENGTH,))
    assert "low" in call_mmd("samples", state=state).out


def test_recordings_in_the_inbox_are_taken_in(state: Path) -> None:
    path = write_wav(state / "inbox" / "high" / "new.wav", varied_tone(1, 5))
    os.utime(path, (0, 0))  # nobody is writing it any more
    ran = call_mmd("ingest", "--inbox", state=state)
    assert (ran.code, path.exists()) == (0, False)
    assert ran.out.startswith("stored 1")


def test_one_sound_at_two_rates_is_nearly_one_sample(state: Path, tmp_path: Path) -> None:
    for rate_hz in (RATE_HZ, 48000):
        write_wav(tmp_path / f"{rate_hz}.wav", tone(300.0, rate_hz=rate_hz), rate_hz, kind="f4")
    ran = call_mmd("ingest", tmp_path / "4000.wav", tmp_path / "48000.wav", state=state)
    assert ran.code == 0, ran.err
    with SampleStore(state / "samples.db") as store:
        stored, _ = store.load([record.id for record in store.records()])
    assert len(stored) == 2
    # The centre may fall on either side of a sample.
    assert min(np.abs(np.roll(stored[0].astype(int), shift) - stored[1]).max() for shift in (-1, 0, 1)) < 60


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cut.wav", wav_bytes(tone(300.0))[:300], "truncated"),
        ("empty.wav", b"", "the file is empty"),
        ("promises.wav", wav_bytes(tone(300.0)).replace(b"data\x40\x06", b"data\x00\xca"), "bytes are missing"),
        ("nan.wav", wav_bytes(np.array([np.nan, 0.1]), kind="f4"), "not finite"),
        ("text.flac", b"no sound at all", "looks like text"),
        ("picture.png", b"\x89PNG\r\n\x1a\n", "is not a WAV or FLAC recording"),
        ("long.wav", wav_bytes(np.zeros(61 * RATE_HZ), kind="u1"), "samples.max_seconds"),
        ("sound.mp3", b"ID3", "has the extension .mp3; expected .wav, .flac, .npy or .npz"),
    ],
)
def test_a_hostile_file_gets_one_line_and_leaves_nothing(
    state: Path, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    ran = call_mmd("ingest", tmp_path / name, state=state)
    assert ran.code == 3
    assert message in ran.err
    assert len(ran.error_lines) == 1
    with SampleStore(state / "samples.db") as store:
        assert store.counts().total == 0
    predicted = call_mmd("predict", tmp_path / name, state=state)
    assert (predicted.code, len(predicted.error_lines)) == (3, 1)


def test_training_and_predicting_hear_the_same_thing(state: Path, tmp_path: Path) -> None:
    """The file, the array from the microphone, and the stored sample give equal bits."""
    sound = varied_tone(0, 3)
    path = write_wav(tmp_path / "sound.wav", sound, kind="f4")
    assert call_mmd("ingest", "--label", "low", path, state=state).code == 0
    with SampleStore(state / "samples.db") as store:
        stored, _ = store.load([record.id for record in store.records()])
    predictor = Predictor(state)
    answers = [
        predictor.predict(path),
        predictor.predict(stored),
        predictor.predict(sound.astype(np.float32), rate_hz=RATE_HZ),
        predictor.predict(np.stack([sound, sound], axis=1).astype(np.float32), rate_hz=RATE_HZ),
    ]
    for answer in answers:
        assert np.array_equal(answer.probabilities, answers[0].probabilities)
    shown = json.loads(call_mmd("predict", path, "--json", state=state).out)
    assert shown["probabilities"] == pytest.approx(
        dict(zip(CLASSES, map(float, answers[0].probabilities[0]), strict=True))
    )


def test_features_are_the_same_in_a_round_and_in_a_prediction(sound_set: Path) -> None:
    stored, _ = open_set(sound_set).anchor()
    preprocessing = Preprocessing.of(open_set(sound_set))
    assert np.array_equal(preprocessing(stored)[7], preprocessing(stored[[7]])[0])


def test_a_round_on_recordings_learns_them(state: Path, tmp_path: Path) -> None:
    assert call_mmd("ingest", write_tone_folders(tmp_path / "tones", 40), state=state).code == 0
    before = _right(state)
    config = tmp_path / "mmd.toml"
    config.write_text('training = { preset = "independent" }\n')
    ran = call_mmd("train", "--force", state=state, config=config)
    assert ran.code == 0, ran.err
    assert _right(state) >= max(before, 38)
    assert Predictor(state).generation == 1


def _right(state: Path) -> int:
    predictor = Predictor(state)
    sounds = [(label, varied_tone(label, 5000 + number)) for label in (0, 1) for number in range(20)]
    heard = [predictor.predict(sound.astype(np.float32), rate_hz=RATE_HZ).labels[0] for _, sound in sounds]
    return sum(name == CLASSES[label] for name, (label, _) in zip(heard, sounds, strict=True))


@pytest.mark.parametrize(
    ("array", "rate_hz", "message"),
    [
        (np.zeros((3, 3, 3), np.float32), RATE_HZ, r"\[frames\] or \[frames, channels\]"),
        (np.zeros(0, np.float32), RATE_HZ, r"\[frames\]"),
        (np.zeros(100, np.int64), RATE_HZ, "floats or int16"),
        (np.full(100, np.nan, np.float32), RATE_HZ, "not finite"),
        (np.zeros(100, np.float32), 10, "samples a second"),
    ],
)
def test_a_recording_that_cannot_be_one_is_refused(state: Path, array: np.ndarray, rate_hz: int, message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        Predictor(state).predict(array, rate_hz=rate_hz)


def test_stored_recordings_come_from_arrays_too(state: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).uniform(-0.5, 0.5, (3, LENGTH))
    np.save(tmp_path / "floats.npy", rows)
    np.savez(tmp_path / "whole.npz", inputs=np.rint(rows * 32768).astype(np.int16), labels=[0, 1, -1], rate_hz=RATE_HZ)
    assert call_mmd("ingest", tmp_path / "floats.npy", state=state).out.startswith("stored 3")
    assert "labelled 2, already stored 1" in call_mmd("ingest", tmp_path / "whole.npz", state=state).out
    np.savez(tmp_path / "other.npz", inputs=rows, rate_hz=16000)
    assert "was taken at 16000 Hz" in call_mmd("ingest", tmp_path / "other.npz", state=state).err
    np.save(tmp_path / "loud.npy", rows * 4)
    assert (
        "expected -32768 to 32767, or -1 to 1 as floats" in call_mmd("ingest", tmp_path / "loud.npy", state=state).err
    )
