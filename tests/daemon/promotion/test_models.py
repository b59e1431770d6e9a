"""Does `current` always name a whole model, whatever happens around it?"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.models import put_candidate, verdict
from tests.support import write_fake_set

from mmd import durable
from mmd.artifact.card import generation_folder, linked_generation
from mmd.artifact.load import open_set
from mmd.errors import StoreDamaged, UsageError
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_outcome

NOW = 1_000_000.0


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.root.mkdir()
    shutil.copytree(write_fake_set(tmp_path / "set"), state.artifact_set)
    store(state).create_shipped(open_set(state.artifact_set))
    return state


def store(state: StateDir, now: float = NOW) -> ModelStore:
    return ModelStore(state, now=lambda: now)


def promote(state: StateDir, number: int, **card: object) -> int:
    put_candidate(state, number, **card)
    outcome = store(state).finish_round(number)
    assert outcome.generation is not None, outcome
    return outcome.generation


def damage(state: StateDir, generation: int, name: str = "mentee.onnx") -> None:
    (generation_folder(state.models, generation) / name).write_bytes(b"broken")


def serving(state: StateDir) -> int:
    return store(state).current().card.generation


def test_the_shipped_model_is_generation_0_and_serves(state: StateDir) -> None:
    card = store(state).current().card
    assert (card.generation, card.round, card.phase(NOW)) == (0, None, "shipped")
    assert card.artifact_sha256 == open_set(state.artifact_set).sha256


def test_creating_the_shipped_model_again_changes_nothing(state: StateDir) -> None:
    promote(state, 1)
    store(state).create_shipped(open_set(state.artifact_set))
    assert serving(state) == 1


def test_creating_the_shipped_model_again_repairs_a_damaged_one(state: StateDir) -> None:
    damage(state, 0)
    store(state).create_shipped(open_set(state.artifact_set))
    assert serving(state) == 0


def test_the_shipped_model_of_another_set_is_refused(state: StateDir, tmp_path: Path) -> None:
    other = open_set(write_fake_set(tmp_path / "other", flavour="b"))
    with pytest.raises(UsageError, match="another artifact set"):
        store(state).create_shipped(other)


def test_a_promoted_candidate_serves_and_its_round_is_closed(state: StateDir) -> None:
    put_candidate(state, 1)
    outcome = store(state).finish_round(1)
    assert (outcome.outcome, outcome.generation) == ("promoted", 1)
    card = store(state).current().card
    assert (card.generation, card.round, card.parent) == (1, 1, 0)
    assert card.verdict is not None
    assert card.verdict.promoted
    assert not (state.rounds / "0001" / "candidate").exists()
    assert (state.rounds / "0001" / "verdict.json").exists()


def test_a_rejected_candidate_never_serves(state: StateDir) -> None:
    put_candidate(state, 1, verdict=verdict(1, promoted=False, reason="Worse."))
    outcome = store(state).finish_round(1)
    assert (outcome.outcome, outcome.reason, outcome.generation) == ("rejected", "Worse.", None)
    assert serving(state) == 0
    assert [entry.generation for entry in store(state).list()] == [0]


def test_a_round_without_a_verdict_cannot_be_finished(state: StateDir) -> None:
    with pytest.raises(UsageError, match="no verdict yet"):
        store(state).finish_round(1)


def test_finishing_again_gives_the_same_outcome(state: StateDir) -> None:
    put_candidate(state, 1)
    first = store(state).finish_round(1)
    assert store(state, NOW + 5).finish_round(1) == first
    assert [entry.generation for entry in store(state).list()] == [0, 1]


class Crash(BaseException):
    """Stands for SIGKILL or a power cut."""


CRASH_POINTS = ["write_bytes", "install_folder", "replace_link", "remove_folder"]


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("call", range(6))
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_durable_write_is_finished_by_the_next_start(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, point: str, call: int, is_before: bool
) -> None:
    for number in range(1, 6):
        promote(state, number)
    put_candidate(state, 6)
    real: Callable[..., None] = getattr(durable, point)
    calls = []

    def crash(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == call + 1 and is_before:
            raise Crash
        real(*arguments)
        if len(calls) == call + 1:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(durable, point, crash)
        try:
            store(state).finish_round(6)
        except Crash:
            assert serving(state) in (5, 6)
    outcome = store(state).finish_round(6)
    assert (outcome.outcome, outcome.generation) == ("promoted", 6)
    assert serving(state) == 6
    assert not list(state.models.glob(".gen-*.tmp"))


def test_what_a_killed_promotion_or_removal_left_goes_with_the_next_round(state: StateDir) -> None:
    for leftover in (".gen-0008.tmp", ".gen-0009.removed"):
        (state.models / leftover).mkdir()
    put_candidate(state, 1, verdict=verdict(1, promoted=False))
    store(state).finish_round(1)
    assert sorted(entry.name for entry in state.models.iterdir()) == ["current", "gen-0000"]


def test_a_candidate_that_does_not_verify_is_made_anew(state: StateDir) -> None:
    folder = put_candidate(state, 1)
    (folder / "candidate" / "mentee.onnx").write_bytes(b"broken")
    with pytest.raises(StoreDamaged, match=r"mentee\.onnx fails its checksum"):
        store(state).finish_round(1)
    assert serving(state) == 0
    assert read_outcome(folder) is None
    assert not (folder / "verdict.json").exists()


NOT_UTF_8 = b'{"round": "\xee"}'


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", NOT_UTF_8])
def test_a_verdict_that_does_not_parse_is_made_anew(state: StateDir, content: bytes) -> None:
    folder = put_candidate(state, 1)
    (folder / "verdict.json").write_bytes(content)
    with pytest.raises(StoreDamaged, match="evaluated again"):
        store(state).finish_round(1)
    assert not (folder / "verdict.json").exists()


def test_a_candidate_that_saw_a_forgotten_sample_is_not_promoted(state: StateDir) -> None:
    put_candidate(state, 1, sample_ids=("kept", "forgotten"))
    outcome = store(state).finish_round(1, stored={"kept", "other"})
    assert outcome.outcome == "abandoned"
    assert serving(state) == 0


def test_a_candidate_judged_by_a_model_that_no_longer_serves_is_not_promoted(state: StateDir) -> None:
    promote(state, 1)
    put_candidate(state, 2, parent=1)
    store(state).rollback()
    assert store(state).finish_round(2).outcome == "rejected"
    assert serving(state) == 0


def test_a_rollback_between_promotion_and_the_last_word_is_kept(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_candidate(state, 1)
    with monkeypatch.context() as patch:
        patch.setattr("mmd.promotion.models.write_outcome", _crash)
        with pytest.raises(Crash):
            store(state).finish_round(1)
    store(state).rollback()
    assert store(state).finish_round(1).generation == 1
    assert serving(state) == 0


def _crash(*arguments: object) -> None:
    raise Crash


@pytest.mark.parametrize("name", ["mentee.onnx", "parameters.safetensors", "card.json"])
def test_a_damaged_model_falls_back_to_the_newest_that_verifies_and_says_so(
    state: StateDir, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    promote(state, 1)
    promote(state, 2, parent=1)
    damage(state, 2, name)
    with caplog.at_level(logging.WARNING):
        assert serving(state) == 1
    assert "gen-0002" in caplog.text
    assert "Generation 1 serves instead." in caplog.text
    assert [(entry.generation, entry.phase, entry.serves) for entry in store(state).list()] == [
        (0, "shipped", False),
        (1, "probation", True),
        (2, "damaged", False),
    ]


@pytest.mark.parametrize("target", [None, "gen-0007", "elsewhere"])
def test_a_link_that_names_nothing_falls_back_too(state: StateDir, target: str | None) -> None:
    promote(state, 1)
    (state.models / "current").unlink()
    if target is not None:
        (state.models / "current").symlink_to(target)
    assert serving(state) == 1


def test_without_a_whole_model_it_says_what_to_do(state: StateDir) -> None:
    damage(state, 0)
    with pytest.raises(StoreDamaged, match=r"gen-0000/mentee\.onnx fails its checksum.*mmd init"):
        store(state).current()


def test_a_new_model_is_on_probation_until_its_hours_have_passed(state: StateDir) -> None:
    promote(state, 1, probation_hours=24.0)
    card = store(state).current().card
    assert card.phase(NOW + 23 * 3600) == "probation"
    assert card.phase(NOW + 24 * 3600) == "confirmed"


def test_rollback_serves_the_one_before_and_withdraws_the_one_that_is_left(state: StateDir) -> None:
    promote(state, 1)
    promote(state, 2, parent=1)
    left, now_serving = store(state).rollback()
    assert (left.generation, now_serving.generation, serving(state)) == (2, 1, 1)
    assert [entry.phase for entry in store(state).list()] == ["shipped", "probation", "withdrawn"]
    damage(state, 1)
    assert serving(state) == 0, "a withdrawn model never comes back by itself"


def test_rollback_to_a_named_generation_and_back_again(state: StateDir) -> None:
    promote(state, 1)
    store(state).rollback(0)
    assert serving(state) == 0
    store(state).rollback(1)
    assert serving(state) == 1
    assert store(state).list()[1].phase == "probation"


def test_rollback_skips_a_damaged_model(state: StateDir) -> None:
    promote(state, 1)
    promote(state, 2, parent=1)
    damage(state, 1)
    assert store(state).rollback()[1].generation == 0


@pytest.mark.parametrize(("to", "message"), [(None, "none before it"), (0, "serving already"), (9, "no generation 9")])
def test_rollback_to_nowhere_is_refused(state: StateDir, to: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        store(state).rollback(to)


def test_rollback_to_a_damaged_model_is_refused_and_changes_nothing(state: StateDir) -> None:
    promote(state, 1)
    damage(state, 0)
    with pytest.raises(StoreDamaged, match="gen-0000"):
        store(state).rollback(0)
    assert serving(state) == 1


def test_old_models_are_retired_and_the_shipped_one_is_kept(state: StateDir) -> None:
    for number in range(1, 9):
        promote(state, number, parent=number - 1)
    assert [entry.generation for entry in store(state).list()] == [0, 5, 6, 7, 8]


def test_rollbacks_do_not_use_up_the_models_to_go_back_to(state: StateDir) -> None:
    promote(state, 1, sample_ids=("a",))
    promote(state, 2, parent=1, sample_ids=("a", "b"))
    promote(state, 3, parent=2, sample_ids=("a", "b", "x"))
    for number in range(4, 9):
        promote(state, number, parent=3, sample_ids=("a", "b", "x", "y"))
        store(state).rollback()
    promote(state, 9, parent=3, sample_ids=("a", "b", "x", "y"))
    kept = [(entry.generation, entry.phase == "withdrawn") for entry in store(state).list()]
    assert kept == [(0, False), (1, False), (2, False), (3, False), (6, True), (7, True), (8, True), (9, False)]
    store(state).drop_generations_that_saw(["x"])
    assert serving(state) == 2


def test_the_parent_of_the_serving_model_is_kept_however_old(state: StateDir) -> None:
    promote(state, 1)
    promote(state, 2, parent=1)
    store(state).rollback(1)
    for number in range(3, 7):
        promote(state, number, parent=1)
        store(state).rollback(1)
    assert serving(state) == 1


def test_a_number_is_never_given_twice(state: StateDir) -> None:
    assert promote(state, 1, sample_ids=("x",)) == 1
    assert store(state).drop_generations_that_saw(["x"]) == [1]
    assert promote(state, 2) == 2


def test_forgetting_drops_every_model_that_saw_the_sample(state: StateDir) -> None:
    promote(state, 1, sample_ids=("x",))
    promote(state, 2, parent=1, sample_ids=("x", "y"))
    promote(state, 3, parent=2, sample_ids=("x", "y", "z"))
    assert store(state).drop_generations_that_saw(["y"]) == [2, 3]
    assert serving(state) == 1
    assert linked_generation(state.models) == 1


def test_forgetting_moves_the_link_before_any_folder_goes(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(state, 1, sample_ids=("x",))
    with monkeypatch.context() as patch:
        patch.setattr(durable, "remove_folder", _crash)
        with pytest.raises(Crash):
            store(state).drop_generations_that_saw(["x"])
    assert linked_generation(state.models) == 0


def test_forgetting_keeps_the_shipped_model_even_when_its_card_is_damaged(state: StateDir) -> None:
    promote(state, 1)
    damage(state, 0, "card.json")
    assert store(state).drop_generations_that_saw(["x"]) == []


def test_forgetting_drops_a_model_that_cannot_say_what_it_saw(state: StateDir) -> None:
    promote(state, 1)
    damage(state, 1, "card.json")
    assert store(state).drop_generations_that_saw(["x"]) == [1]


def test_old_rounds_keep_only_how_they_ended(state: StateDir) -> None:
    for number in range(1, 53):
        put_candidate(state, number, verdict=verdict(number, promoted=False))
        (state.rounds / f"{number:04d}" / "losses.jsonl").write_bytes(b"")
        store(state).finish_round(number)
    with_losses = sorted(path.parent.name for path in state.rounds.glob("*/losses.jsonl"))
    assert with_losses == [f"{number:04d}" for number in range(3, 53)]
    assert read_outcome(state.rounds / "0001") is not None


def test_a_fall_back_is_said_once_however_often_it_is_looked_at(
    state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    promote(state, 1)
    damage(state, 1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert serving(state) == 0
    assert len(caplog.records) == 2


def test_forgetting_what_no_model_saw_drops_none(state: StateDir) -> None:
    promote(state, 1, sample_ids=("x",))
    assert store(state).drop_generations_that_saw(["q"]) == []
    assert serving(state) == 1


def test_forgetting_with_no_untouched_model_left_says_so_and_drops_nothing(state: StateDir) -> None:
    promote(state, 1, sample_ids=("x",))
    damage(state, 0)
    with pytest.raises(StoreDamaged, match="mmd init"):
        store(state).drop_generations_that_saw(["x"])
    assert linked_generation(state.models) == 1


def test_forgetting_abandons_the_open_round_and_removes_its_working_folders(state: StateDir) -> None:
    folder = state.rounds / "0001"
    (folder / "folds").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "plan.json").write_bytes(msgspec.json.encode({"number": 1, "sample_ids": ["x", "y"]}))
    assert store(state).drop_generations_that_saw(["y"]) == []
    outcome = read_outcome(folder)
    assert outcome is not None
    assert outcome.outcome == "abandoned"
    assert not (folder / "folds").exists()
    assert not (folder / "checkpoints").exists()


def test_a_write_that_finds_no_room_leaves_the_serving_model(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    put_candidate(state, 1)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "install_folder", full)
        with pytest.raises(OSError, match="No space"):
            store(state).finish_round(1)
    assert serving(state) == 0
    assert store(state).finish_round(1).outcome == "promoted"
