"""Is a model that does worse on what comes after its promotion taken back, whatever happens in between?"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.daemon.serving.test_predictor import model_that_says
from tests.models import put_candidate
from tests.support import call_mmd, eventually, write_json
from tests.tiny import CLASSES, Board, tiny_board, tiny_samples

from mmd import Predictor, durable
from mmd.artifact.card import generation_folder, linked_generation
from mmd.artifact.review import read_review
from mmd.conditions.reading import system_clock
from mmd.config import Config, GateConfig
from mmd.errors import MmdError
from mmd.promotion.reviewing import review_serving
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore
from mmd.supervisor.history import History, open_history
from mmd.supervisor.probation import Probation, is_review_due, review_now
from mmd.supervisor.record import Recorder
from mmd.supervisor.view import taken_back

SETTINGS = GateConfig(probation_samples=30)


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    """A board whose model, generation 1, says class 1 to everything, and is on probation since."""
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    promote(board, 1, says=1)
    return board


def promote(board: Board, number: int, *, says: int, **card: object) -> None:
    """Force a candidate through the gate, as chance may do now and then."""
    parent = board.models().current().card.generation
    model = model_that_says(board, says)
    put_candidate(board.state, number, model=model, parent=parent, probation_hours=24.0, **card)
    assert board.models().finish_round(number).generation == number


def bring(board: Board, count: int, *, label: int, seed: int) -> list[str]:
    """Let `count` samples of one class come in; return their ids."""
    inputs, labels = tiny_samples(count * 8, seed=seed)
    chosen = inputs[labels == label][:count]
    assert len(chosen) == count
    with board.store() as store:
        return [one.id for one in store.add(NewSample(each.tobytes(), CLASSES[label], "new") for each in chosen)]


def serving(board: Board) -> int | None:
    return linked_generation(board.state.models)


def test_a_model_that_is_right_where_the_one_before_was_passes(board: Board) -> None:
    promote(board, 2, says=1)
    bring(board, 15, label=0, seed=5)
    found = review_serving(board.state, SETTINGS)
    assert found is not None
    assert (found.state, found.judged, found.right_before, found.right_after) == ("open", 15, 0, 0)
    assert "(probation: 0 -> 0 right of 15 new samples)" in call_mmd("status", state=board.state.root).out
    bring(board, 15, label=1, seed=6)
    assert review_now(board.state, SETTINGS, system_clock().wall) is None
    passed = read_review(generation_folder(board.state.models, 2))
    assert passed is not None
    assert (passed.state, passed.judged) == ("passed", 30)
    assert [entry.phase for entry in board.models().list()] == ["shipped", "probation", "confirmed"]
    assert review_serving(board.state, SETTINGS) is None  # it is over


def test_a_worse_model_goes_back_by_itself_and_everybody_is_told(board: Board) -> None:
    promote(board, 2, says=2)
    predictor = Predictor(board.state)
    bring(board, 9, label=1, seed=5)
    assert review_now(board.state, SETTINGS, system_clock().wall) is not None
    assert serving(board) == 1
    assert predictor.predict(tiny_samples(1, seed=1)[0]).generation == 1
    told = "Worse than generation 1 by more than chance: 9 -> 0 right of 9 samples that came since."
    entries = json.loads(call_mmd("models", "--json", state=board.state.root).out)
    assert (entries[2]["phase"], entries[2]["review"]["reason"]) == ("withdrawn", told)
    assert f"taken back: {told}" in call_mmd("models", state=board.state.root).out
    assert f"Note: Generation 2 was taken back. {told}" in call_mmd("why", state=board.state.root).out
    status = json.loads(call_mmd("status", "--json", state=board.state.root).out)
    assert (status["model"]["generation"], status["model"]["phase"]) == (1, "probation")
    promote(board, 3, says=1)
    assert taken_back(board.state) is None  # that is no news any more


def test_samples_that_one_of_the_models_knows_judge_nothing(board: Board) -> None:
    promote(board, 2, says=2)
    known = bring(board, 9, label=1, seed=5)
    folder = generation_folder(board.state.models, 1)
    card = json.loads((folder / "card.json").read_text())
    write_json(folder / "card.json", {**card, "sample_ids": known[:8]})
    found = review_serving(board.state, SETTINGS)
    assert found is not None
    assert found.judged == 1


def test_samples_from_before_the_promotion_and_unlabelled_ones_judge_nothing(board: Board) -> None:
    bring(board, 9, label=1, seed=5)
    promote(board, 2, says=2)
    inputs, _ = tiny_samples(5, seed=6)
    with board.store() as store:
        store.add(NewSample(each.tobytes(), None, "unlabelled") for each in inputs)
    assert not is_review_due(board.state, system_clock().wall)
    found = review_serving(board.state, SETTINGS)
    assert found is not None
    assert found.judged == 0


def test_many_samples_are_judged_a_lot_at_a_time(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    bring(board, 4, label=2, seed=6)
    loaded: list[int] = []
    real = SampleStore.load

    def load(store: SampleStore, ids: Sequence[str]) -> object:
        loaded.append(len(ids))
        return real(store, ids)

    monkeypatch.setattr("mmd.promotion.reviewing._AT_ONCE", 5)
    monkeypatch.setattr(SampleStore, "load", load)
    found = review_serving(board.state, SETTINGS)
    assert found is not None
    assert (loaded, found.judged, found.right_before, found.right_after) == ([5, 5, 3], 13, 9, 4)


def test_the_shipped_model_has_no_probation(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    bring(board, 9, label=1, seed=5)
    assert not is_review_due(board.state, system_clock().wall)
    assert review_serving(board.state, SETTINGS) is None


def test_a_probation_ends_with_its_hours(board: Board) -> None:
    bring(board, 9, label=0, seed=5)
    later = system_clock().wall + 25 * 3600
    assert not is_review_due(board.state, later)
    assert review_serving(board.state, SETTINGS, now=lambda: later) is None


def test_where_no_model_is_before_it_the_serving_one_stays(board: Board) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    assert review_serving(board.state, SETTINGS) is not None
    for number in (0, 1):
        durable.remove_folder(generation_folder(board.state.models, number))
    assert board.models().settle() is None
    assert review_serving(board.state, SETTINGS) is None
    assert serving(board) == 2


class Crash(BaseException):
    """Stands for SIGKILL or a power cut."""


@pytest.mark.parametrize("point", ["write_bytes", "replace_link"])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_crash_on_the_way_back_is_finished_by_the_next_start(
    board: Board, monkeypatch: pytest.MonkeyPatch, point: str, is_before: bool
) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    review_serving(board.state, SETTINGS)
    real: Callable[..., None] = getattr(durable, point)

    def crash(*arguments: object) -> None:
        if not is_before:
            real(*arguments)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(durable, point, crash)
        with pytest.raises(Crash):
            board.models().settle()
    assert Predictor(board.state).generation in (1, 2)
    board.models().settle()
    assert Predictor(board.state).generation == 1
    assert [entry.phase for entry in board.models().list()] == ["shipped", "probation", "withdrawn"]


def test_a_model_that_the_owner_brings_back_stays(board: Board) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    assert review_now(board.state, SETTINGS, system_clock().wall) is not None
    assert call_mmd("rollback", "2", state=board.state.root).code == 0
    bring(board, 9, label=1, seed=7)
    assert review_now(board.state, SETTINGS, system_clock().wall) is None
    assert serving(board) == 2
    assert board.models().list()[2].phase == "confirmed"


def test_a_review_that_cannot_be_read_is_made_again(board: Board) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    (generation_folder(board.state.models, 2) / "review.json").write_text("{")
    assert board.models().list()[2].phase == "probation"
    assert board.models().settle() is None
    assert review_now(board.state, SETTINGS, system_clock().wall) is not None


def test_what_the_way_back_leads_to_saw_nothing_that_was_forgotten(board: Board) -> None:
    (known,) = bring(board, 1, label=1, seed=9)
    promote(board, 2, says=1, sample_ids=(known,))
    promote(board, 3, says=2)
    bring(board, 9, label=1, seed=5)
    assert call_mmd("forget", known, state=board.state.root).code == 0
    assert review_now(board.state, SETTINGS, system_clock().wall) is not None
    assert serving(board) == 1


def test_mmd_train_reviews_first_and_begins_from_the_model_that_serves_again(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, samples=4)
    inputs, _ = tiny_samples(60, seed=5)
    said = Predictor(board.state).predict(inputs).labels
    usual = max(CLASSES, key=said.count)
    promote(board, 1, says=next(place for place, name in enumerate(CLASSES) if name != usual))
    with board.store() as store:
        store.add(
            NewSample(each.tobytes(), usual, "new") for each, label in zip(inputs, said, strict=True) if label == usual
        )
    ran = call_mmd("train", "--force", state=board.state.root)
    assert ran.code == 0, ran.err
    assert ran.error_lines[0].startswith(
        "mmd: generation 1 was taken back. Worse than generation 0 by more than chance"
    )
    assert json.loads((board.state.rounds / "0002" / "plan.json").read_text())["start_generation"] == 0
    with history(board) as kept:
        assert [each.detail[:48] for each in kept.events()] == ["Generation 1. Worse than generation 0 by more th"]


def history(board: Board) -> History:
    opened = open_history(board.state.history_db)
    assert opened is not None
    return opened


@pytest.fixture
def recorder(board: Board) -> Iterator[Recorder]:
    kept = Recorder(board.state.history_db, system_clock())
    yield kept
    kept.stop(system_clock())


def test_the_daemon_reviews_when_samples_come_and_keeps_what_happened(board: Board, recorder: Recorder) -> None:
    promote(board, 2, says=2)
    probation = Probation(board.state, recorder, rest_seconds=0.0)

    def look() -> None:
        with board.store() as store:
            probation.look(store.counts(), Config(), system_clock())

    look()
    assert probation.pid is None  # nothing came since
    bring(board, 9, label=1, seed=5)
    look()
    assert probation.pid is not None

    def is_taken_back() -> bool:
        look()
        return serving(board) == 1

    eventually(is_taken_back)
    with history(board) as kept:
        (event,) = [each for each in kept.events() if each.name == "taken_back"]
    assert event.detail.startswith("Generation 2. Worse than generation 1")
    probation.close()


def test_a_review_that_is_killed_is_made_again(
    board: Board, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    probation = Probation(board.state, recorder, rest_seconds=0.0)
    killed: list[int] = []

    def look() -> bool:
        with board.store() as store:
            probation.look(store.counts(), Config(), system_clock())
        if probation.pid is not None and not killed:
            os.kill(probation.pid, signal.SIGKILL)
            killed.append(probation.pid)
        return serving(board) == 1

    eventually(look)
    assert killed
    assert "the review of the model on probation failed: it was killed by SIGKILL" in caplog.text
    probation.close()


@pytest.mark.parametrize("refused", ["a process", "the disk", "its turn"])
def test_what_the_system_refuses_is_tried_again(
    board: Board,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: str,
) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    probation = Probation(board.state, recorder, rest_seconds=0.0)

    def refuse(*arguments: object, **options: object) -> None:
        raise MmdError("not now") if refused == "its turn" else OSError("not now")

    def look() -> None:
        with board.store() as store:
            probation.look(store.counts(), Config(), system_clock())

    def is_refused() -> bool:
        look()
        return "now: not now" in caplog.text

    def is_taken_back() -> bool:
        look()
        return serving(board) == 1

    with monkeypatch.context() as patch:
        if refused == "a process":
            patch.setattr("mmd.supervisor.probation.subprocess.Popen", refuse)
        elif refused == "its turn":
            patch.setattr("mmd.promotion.turns.turn", refuse)
        else:
            patch.setattr(durable, "replace_link", refuse)
        eventually(is_refused)
        assert serving(board) == 2
    eventually(is_taken_back)
    probation.close()


def test_a_review_that_runs_ends_with_the_daemon(board: Board, recorder: Recorder) -> None:
    promote(board, 2, says=2)
    bring(board, 9, label=1, seed=5)
    now = system_clock()
    probation = Probation(board.state, recorder)
    with board.store() as store:
        probation.look(store.counts(), Config(), now)
    assert probation.pid is not None
    probation.close()
    assert probation.pid is None
    assert serving(board) == 2
