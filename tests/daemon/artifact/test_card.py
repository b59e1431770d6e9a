"""Does a reader of `models/` find the model that serves, and only a whole one?"""

from pathlib import Path

import numpy as np
import pytest

from mmd.artifact.card import ModelCard, generation_folder, generations, linked_generation, newest_whole_model
from mmd.artifact.load import open_set


def card(**changes: object) -> ModelCard:
    values = {"generation": 1, "sha256": "a", "parameters_sha256": "b", "artifact_sha256": "c", "created": 100.0}
    return ModelCard(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "now", "phase"),
    [
        ({"round": None}, 100.0, "shipped"),
        ({"round": 1, "probation_hours": 1.0}, 100.0 + 3599, "probation"),
        ({"round": 1, "probation_hours": 1.0}, 100.0 + 3600, "confirmed"),
        ({"round": 1}, 100.0, "confirmed"),
    ],
)
def test_the_phase_follows_the_clock(changes: dict[str, object], now: float, phase: str) -> None:
    assert card(**changes).phase(now) == phase


def test_generations_are_found_by_number_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("gen-0010", "gen-0002", "gen-x", ".gen-0003.tmp", "other"):
        (tmp_path / name).mkdir()
    assert generations(tmp_path) == [2, 10]
    assert generation_folder(tmp_path, 10).name == "gen-0010"
    assert generation_folder(tmp_path, 12345).name == "gen-12345"


@pytest.mark.parametrize(("target", "expected"), [("gen-0007", 7), ("elsewhere", None), (None, None)])
def test_the_link_names_a_generation_or_none(tmp_path: Path, target: str | None, expected: int | None) -> None:
    if target:
        (tmp_path / "current").symlink_to(target)
    assert linked_generation(tmp_path) == expected


def test_without_models_there_is_nothing_to_complain_of(tmp_path: Path) -> None:
    assert newest_whole_model(tmp_path / "none") == (None, [])


def test_the_gate_and_the_replay_never_share_an_anchor_sample(tiny_set: Path) -> None:
    artifact_set = open_set(tiny_set)
    inputs, labels = artifact_set.anchor()
    replay, gate = artifact_set.replay_anchor(), artifact_set.gate_anchor()
    np.testing.assert_array_equal(np.sort(np.concatenate([replay[1], gate[1]])), np.sort(labels))
    np.testing.assert_array_equal(replay[0], inputs[0::2])
    np.testing.assert_array_equal(gate[0], inputs[1::2])


@pytest.mark.parametrize("content", [b"", b"{", b'{"generation": 1}', b'{"sha256": "\xee"}'])
def test_a_card_that_cannot_be_read_is_damage_of_that_model_only(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "gen-0001"
    folder.mkdir()
    (folder / "card.json").write_bytes(content)
    model, complaints = newest_whole_model(tmp_path)
    assert model is None
    assert ["gen-0001/card.json does not parse" in complaint for complaint in complaints] == [True]
