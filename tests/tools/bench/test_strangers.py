"""Does the bench of speakers make a set without each of them, and run the product on the one whom it never heard?"""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.sounds import RATE_HZ, tone, write_wav
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.artifact.load import open_set
from mmd.errors import InputRefused, UsageError
from mmd_tools.bench.owners import owners_command
from mmd_tools.bench.owners_data import Owner, split_owner
from mmd_tools.bench.owners_report import OwnersResults
from mmd_tools.bench.owners_run import DEFAULT, MENTOR, SHIPPED
from mmd_tools.bench.tables import read_raw
from mmd_tools.prepare_speech import read_speech
from mmd_tools.recipe import Recipe
from mmd_tools.recipe_check import load_recipe
from mmd_tools.takes import SPLITS, anchor_order, split_by_person
from mmd_tools.train_data import Part

SPEAKERS = {"ada": 1.0, "bob": 0.8}
TAKES = 30
RECIPE = """
name = "tones"
licence = "MIT"
classes = ["0", "1"]
anchor = "anchor.npz"

[input]
kind = "audio"
mean = [-14.0]
std = [4.0]

[input.audio]
rate_hz = 4000
seconds = 0.25
mels = 8
low_hz = 100.0
high_hz = 1800.0

[training]
epochs = 2
batch_size = 16

[nets.mentor]
input = [1, 8, 14]
layers = ["conv 4 3", "relu", "pool 2", "flatten", "fc 2"]
training = { epochs = 2, batch_size = 8 }
audio_augment = { speed = 0.1, noise_db = 20.0, mask_frames = 2 }

[nets.mentee]
input = [1, 8, 14]
layers = ["conv 2 3", "relu", "pool 4", "flatten", "fc 2"]
training = { epochs = 1, batch_size = 8 }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers who whistle two digits."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for speaker, voice in SPEAKERS.items():
        for digit, hertz in enumerate((300.0, 900.0)):
            for take in range(TAKES):
                sound = tone(voice * hertz * rng.uniform(0.95, 1.05), seconds=0.15) + rng.normal(0, 0.002, 600)
                write_wav(folder / speaker / f"{digit}_{speaker}_{take}.wav", sound)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def recipe(data: Path) -> Recipe:
    return load_recipe(data / "recipe.toml")


def test_recordings_are_read_in_order_of_speaker_take_and_digit(data: Path, recipe: Recipe) -> None:
    speech = read_speech(data, recipe)
    assert speech.inputs.shape == (120, round(0.25 * RATE_HZ))
    assert speech.people[:60].tolist() == ["ada"] * 60
    assert speech.labels[:4].tolist() == [0, 1, 0, 1]
    assert speech.takes[:4].tolist() == [0, 0, 1, 1]


def test_a_stranger_is_in_no_other_part_and_the_anchors_halves_share_no_take(data: Path, recipe: Recipe) -> None:
    speech = read_speech(data, recipe)
    split = split_by_person(speech, "bob")
    assert set(speech.people[split == SPLITS.index("strangers")].tolist()) == {"bob"}
    assert set(speech.people[split != SPLITS.index("strangers")].tolist()) == {"ada"}
    order = anchor_order(speech, split)
    replay, gate = order[0::2], order[1::2]
    assert len(replay) == len(gate) > 0
    assert not set(speech.takes[replay]) & set(speech.takes[gate])
    assert set(split[gate]) == {SPLITS.index("anchor"), SPLITS.index("validation")}, "nothing that was trained on"
    assert set(split[replay]) <= {SPLITS.index("anchor"), SPLITS.index("train")}


def test_a_speaker_who_is_not_there_is_refused(data: Path, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no `eve`; there are ada, bob"):
        split_by_person(read_speech(data, recipe), "eve")


def test_a_folder_without_recordings_and_a_broken_one_are_refused(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(InputRefused, match=r"no recording DIGIT_SPEAKER_TAKE\.wav"):
        read_speech(tmp_path, recipe)
    (tmp_path / "0_ada_0.wav").write_bytes(b"RIFF")
    with pytest.raises(InputRefused, match=r"0_ada_0\.wav is a RIFF file without sound"):
        read_speech(tmp_path, recipe)


def test_takes_are_given_away_whole() -> None:
    labels = np.repeat(np.arange(10), 8)
    owner = Owner("one", Part(np.arange(80, dtype=np.float32)[:, None], labels), by_takes=True)
    split = split_owner(owner, 1, largest=50)
    for take in range(5):
        assert sorted(split.own.labels[10 * take : 10 * take + 10].tolist()) == list(range(10))
    assert len(split.test.labels) == 30


@NEEDS_TRAINING_BUILD
def test_the_quick_bench_makes_a_set_a_speaker_and_writes_whole_results(data: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    given = ["--kind", "speech", "--data", data, "--recipe", data / "recipe.toml", "--sets", sets, "--out", tmp_path]
    arguments = [*map(str, given), "--quick", "--no-plot"]
    ran = CliRunner().invoke(owners_command, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    hashes = {name: open_set(sets / name / "set").sha256[:12] for name in SPEAKERS}
    results = read_raw(tmp_path / "speakers-quick.json", OwnersResults)
    assert results.conditions.artifact_sha256.split() == list(hashes.values())
    assert {record.owner for record in results.records} == set(SPEAKERS)
    assert {SHIPPED, MENTOR, DEFAULT} <= {record.row for record in results.records}
    told = (tmp_path / "speakers-quick.md").read_text()
    assert "2 speakers, 1 seed(s) each, with sets that never met them" in told
    assert "## Owner by owner, 50 own samples" in told
    made = {path: path.stat().st_mtime_ns for path in sets.rglob("*.onnx")}
    again = CliRunner().invoke(owners_command, [*arguments, "--redraw"], catch_exceptions=False)
    assert again.exit_code == 0
    assert made == {path: path.stat().st_mtime_ns for path in sets.rglob("*.onnx")}


def test_speech_without_its_folders_says_what_it_needs() -> None:
    ran = CliRunner().invoke(owners_command, ["--kind", "speech", "--no-plot"])
    assert isinstance(ran.exception, UsageError)
    assert "--data" in str(ran.exception)
