"""What does the trainer child say, and how does it end, when something is wrong?"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file
from tests.support import call_mmd
from tests.tiny import CLASSES, Board, tiny_board, tiny_samples
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.artifact.card import MODEL_NAME, Verdict, generation_folder, read_card, read_model
from mmd.artifact.int8 import quantise
from mmd.artifact.load import open_set
from mmd.artifact.manifest import encode_manifest, manifest_path
from mmd.augmentation import Augmentation
from mmd.config import Config, GateConfig, PromotionConfig, TrainingConfig
from mmd.errors import StoreDamaged, TrainingFailed
from mmd.promotion import evaluate
from mmd.promotion.answers import Judged
from mmd.promotion.evaluate import ask
from mmd.promotion.outcome import CANDIDATE_NAME, RoundOutcome, read_outcome, read_verdict
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore
from mmd.serving.predictor import Predictor
from mmd.supervisor import candidate as candidate_module
from mmd.supervisor import evidence, trainer, workshop
from mmd.supervisor.progress import open_round
from mmd.supervisor.rounds import begin_round, finish_round, trainer_command
from mmd.training.checkpoint import CheckpointFolder, save_checkpoint
from mmd.training.engine import StepLosses, TrainingState
from mmd.training.plan import RoundPlan, read_plan, write_plan
from mmd.training.portable import PortableEngine

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def keep_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set)


def begin(board: Board, config: Config | None = None) -> RoundPlan:
    with board.store() as store:
        return begin_round(board.state, config or board.config, store)


def run_trainer(board: Board, capsys: Capture, **engine: Any) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    code = trainer.main(["--state-dir", str(board.state.root), "--round", "1"], **engine)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def read_verdict_of(board: Board) -> Verdict:
    verdict = read_verdict(board.state.rounds / "0001")
    assert verdict is not None
    return verdict


def outcome(board: Board) -> RoundOutcome | None:
    return read_outcome(board.state.rounds / "0001")


def test_a_round_says_its_steps_and_its_verdict(board: Board, capsys: Capture) -> None:
    plan = begin(board)
    code, events = run_trainer(board, capsys)
    assert code == 0
    assert [event["event"] for event in events] == [
        "preparing",
        *["step"] * plan.steps,
        "evaluating",
        "verdict",
    ]
    assert all(event["steps"] == plan.steps for event in events[1:-2])
    verdict = read_verdict(board.state.rounds / "0001")
    assert verdict is not None
    assert verdict.reason == events[-1]["reason"]


@pytest.mark.parametrize("engine", ["portable", pytest.param("ort_training", marks=NEEDS_TRAINING_BUILD)])
def test_a_board_with_little_memory_takes_the_same_round_in_parts(
    tmp_path: Path, tiny_set: Path, capsys: Capture, engine: str
) -> None:
    losses = []
    for name, micro_batch in (("whole", None), ("parts", 5)):
        board = tiny_board(tmp_path / name, tiny_set, engine=engine, micro_batch=micro_batch, clip_norm=1.0, epochs=2)
        begin(board)
        code, events = run_trainer(board, capsys)
        assert code == 0
        losses.append([event["loss"] for event in events if event["event"] == "step"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_every_new_sample_is_judged_by_a_fold_model_that_never_saw_it(board: Board, capsys: Capture) -> None:
    plan = begin(board, Config(training=board.config.training, gate=GateConfig(folds=3)))
    code, events = run_trainer(board, capsys)
    assert code == 0
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, plan.steps_in_all + 1))
    verdict = read_verdict(board.state.rounds / "0001")
    assert verdict is not None
    assert verdict.out_of_fold_total == len(plan.sample_ids)
    assert f"of {len(plan.sample_ids)} out of fold" in verdict.reason
    with board.store() as store:
        assert verdict.holdout_total == len(store.holdout_ids(labelled=True))


def test_what_the_serving_model_has_seen_judges_nothing_again(board: Board, capsys: Capture) -> None:
    config = Config(training=board.config.training, gate=GateConfig(folds=3))
    first = begin(board, config)
    run_trainer(board, capsys)
    with board.store() as store:
        assert finish_round(board.state, 1, store).outcome == "promoted"
        inputs, labels = tiny_samples(24, seed=9)
        store.add(
            NewSample(image.tobytes(), CLASSES[label], f"new {place}")
            for place, (image, label) in enumerate(zip(inputs, labels, strict=True))
        )
    second = begin(board, config)
    new = set(second.sample_ids) - set(first.sample_ids)
    in_a_fold = {name for name, fold in zip(second.sample_ids, second.folds, strict=True) if fold >= 0}
    assert new
    assert in_a_fold == new


def test_the_chosen_candidate_says_what_it_is_made_of(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, memory=True, blends=(0.5,))
    plan = begin(board, Config(training=board.config.training, gate=GateConfig(folds=2)))
    assert plan.blends == (0.0, 0.5)
    assert run_trainer(board, capsys)[0] == 0
    card = read_card(board.state.rounds / "0001" / "candidate")
    assert card.blend in plan.blends
    assert card.remembers == len(plan.sample_ids)
    assert set(card.sample_ids) == set(plan.sample_ids)


def test_without_a_memory_or_a_blend_the_candidate_is_what_was_trained(board: Board, capsys: Capture) -> None:
    begin(board)
    run_trainer(board, capsys)
    card = read_card(board.state.rounds / "0001" / "candidate")
    assert (card.blend, card.remembers) == (1.0, 0)


def test_a_judged_round_says_its_verdict_again(board: Board, capsys: Capture) -> None:
    begin(board)
    _, first = run_trainer(board, capsys)
    code, again = run_trainer(board, capsys)
    assert code == 0
    assert again == first[-1:]


def test_a_verdict_that_does_not_parse_is_made_again(board: Board, capsys: Capture) -> None:
    begin(board)
    _, first = run_trainer(board, capsys)
    (board.state.rounds / "0001" / "verdict.json").write_text("{")
    _, again = run_trainer(board, capsys)
    assert again[-1] == first[-1]


def test_what_a_round_trained_on_is_never_held_out(board: Board) -> None:
    plan = begin(board)
    with board.store() as store:
        assert not set(plan.sample_ids) & set(store.holdout_ids())
        assert set(plan.sample_ids) == set(store.training_ids())


def test_samples_are_new_until_their_round_is_finished(board: Board, capsys: Capture) -> None:
    begin(board)
    run_trainer(board, capsys)
    with board.store() as store:
        assert store.counts().new == 57
        finish_round(board.state, 1, store)
        assert store.counts().new == 0


def test_what_a_round_learned_in_vain_is_new_again(board: Board, capsys: Capture) -> None:
    begin(board)
    run_trainer(board, capsys)
    with board.store() as store:
        store.forget(store.training_ids()[:1])  # where nobody has closed the round yet
        outcome = finish_round(board.state, 1, store)
        assert (outcome.outcome, outcome.lost_its_ground) == ("abandoned", True)
        assert store.counts().new == len(store.training_ids()) == 56


def test_a_sample_with_another_label_since_stays_new(board: Board, capsys: Capture) -> None:
    begin(board)
    run_trainer(board, capsys)
    with board.store() as store:
        identifier = store.training_ids()[0]
        record = store.get(identifier)
        assert record is not None
        store.label(identifier, "a" if record.label != "a" else "b")
        finish_round(board.state, 1, store)
        assert store.counts().new == 1


def test_without_labels_the_mentor_alone_teaches(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, labelled=False)
    assert begin(board).preset == "unlabelled"
    _, events = run_trainer(board, capsys)
    assert events[-1]["code"] == "too_few_to_judge"
    assert events[-2]["event"] == "evaluating"
    steps = [event["loss"] for event in events if event["event"] == "step"]
    assert np.mean(steps[-5:]) < np.mean(steps[:5])


def test_labels_alone_never_wake_the_mentor(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, preset="independent", variant="auto")
    begin(board)
    code, events = run_trainer(board, capsys)
    assert code == 0
    assert not board.state.cache_db.exists()
    (told,) = [event["message"] for event in events if event["event"] == "decided"]
    assert told == "The Mentor is not asked: labels alone teach this round."


@pytest.mark.parametrize("variant", ["cached", "fused"])
def test_a_mentor_that_yields_to_labels_changes_no_bit_where_every_sample_has_one(
    tmp_path: Path, tiny_set: Path, capsys: Capture, variant: str
) -> None:
    yielding = shutil.copytree(tiny_set, tmp_path / "set")
    manifest = open_set(tiny_set).manifest
    loss = msgspec.structs.replace(manifest.loss, labelled_schedule="independent")
    manifest_path(yielding).write_bytes(encode_manifest(msgspec.structs.replace(manifest, loss=loss)))
    models = []
    for folder, preset in ((yielding, None), (tiny_set, "independent")):
        board = tiny_board(tmp_path / f"state {preset}", folder, preset=preset, variant=variant)
        assert not begin(board).listens_to_mentor
        run_trainer(board, capsys)
        assert not board.state.cache_db.exists()
        models.append((board.state.rounds / "0001" / CANDIDATE_NAME / MODEL_NAME).read_bytes())
    assert models[0] == models[1]


def test_the_fused_variant_trains_too(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, variant="fused", views=2)
    begin(board)
    _, events = run_trainer(board, capsys)
    assert events[-1]["event"] == "verdict"


def test_an_open_variant_is_decided_once_and_the_reason_is_told(
    tmp_path: Path, tiny_set: Path, capsys: Capture
) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, variant="auto")
    assert begin(board).variant == "auto"
    _, events = run_trainer(board, capsys)
    decided = read_plan(board.state.rounds / "0001").variant
    assert decided in ("cached", "fused")
    (told,) = [event["message"] for event in events if event["event"] == "decided"]
    assert "in every step" in told
    assert events[-1]["event"] == "verdict"
    (board.state.rounds / "0001" / "verdict.json").unlink()
    _, again = run_trainer(board, capsys)
    assert not [event for event in again if event["event"] == "decided"]


def test_without_room_an_open_variant_is_fused(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, variant="auto", cache_mib=0.01)
    begin(board)
    _, events = run_trainer(board, capsys)
    assert read_plan(board.state.rounds / "0001").variant == "fused"
    assert "training.cache_mib allows 0.01" in next(event["message"] for event in events if event["event"] == "decided")


def test_without_room_the_cached_variant_takes_the_same_steps(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    losses = []
    for name, cache_mib in (("roomy", 256.0), ("full", 0.0)):
        board = tiny_board(tmp_path / name, tiny_set, cache_mib=cache_mib, views=2)
        begin(board)
        run_trainer(board, capsys)
        losses.append((board.state.rounds / "0001" / "losses.jsonl").read_bytes())
        assert board.state.cache_db.exists() == (cache_mib > 0)
    assert losses[0] == losses[1]


def test_a_second_round_asks_the_mentor_about_new_samples_only(board: Board, capsys: Capture) -> None:
    begin(board)
    run_trainer(board, capsys)
    before = board.state.cache_db.stat().st_mtime_ns
    with board.store() as store:
        finish_round(board.state, 1, store)
    write_plan(board.state, msgspec.structs.replace(begin(board), number=2))
    capsys.readouterr()
    assert trainer.main(["--state-dir", str(board.state.root), "--round", "2"]) == 0
    assert board.state.cache_db.stat().st_mtime_ns == before


def test_too_few_held_out_samples_are_the_reason_for_no_promotion(board: Board, capsys: Capture) -> None:
    begin(board, Config(training=TrainingConfig(), gate=GateConfig(min_judged=1000, folds=0)))
    _, events = run_trainer(board, capsys)
    assert not events[-1]["promoted"]
    assert "1000 are needed" in events[-1]["reason"]


class Exploding(PortableEngine):
    """Its losses are never finite."""

    def step(self, *arguments: Any) -> StepLosses:
        super().step(*arguments)
        return StepLosses(float("nan"), 0.0, 0.0, (0.0,))


def test_a_round_that_cannot_be_trained_is_closed_and_its_samples_are_no_longer_new(
    board: Board, capsys: Capture
) -> None:
    begin(board)
    code, events = run_trainer(board, capsys, open_engine=lambda artifact_set, **_: Exploding(artifact_set))
    assert code == TrainingFailed.exit_code
    assert events[-1]["event"] == "failed"
    assert "training.learning_rate" in events[-1]["message"]
    assert [event["event"] for event in events].count("notice") == 3
    closed = outcome(board)
    assert closed is not None
    assert closed.outcome == "failed"
    with board.store() as store:
        assert store.counts().new == 0


def test_steps_that_are_far_too_long_are_made_shorter_until_the_loss_is_a_number(
    tmp_path: Path, tiny_set: Path, capsys: Capture
) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, learning_rate=1e10, weight_decay=0.0, epochs=2)
    begin(board)
    code, events = run_trainer(board, capsys)
    notices = [event["message"] for event in events if event["event"] == "notice"]
    assert code == 0
    assert len(notices) in (1, 2, 3)
    assert "a tenth of the learning rate (1 of 3 tries)" in notices[0]
    assert events[-1]["event"] == "verdict"


def test_three_tenths_that_do_not_help_close_the_round(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, learning_rate=1e30)
    begin(board)
    code, events = run_trainer(board, capsys)
    assert code == TrainingFailed.exit_code
    assert [event["event"] for event in events].count("notice") == 3
    assert "training.learning_rate" in events[-1]["message"]


def test_a_checkpoint_of_another_model_is_an_error_that_says_what_to_do(board: Board, capsys: Capture) -> None:
    begin(board)
    checkpoints = board.state.rounds / "0001" / "checkpoints"
    checkpoints.mkdir()
    foreign = {"stranger": np.zeros(3, np.float32)}
    save_checkpoint(checkpoints / "step-00000005.safetensors", TrainingState(5, foreign, foreign, foreign))
    code, events = run_trainer(board, capsys)
    assert code == StoreDamaged.exit_code
    assert "at step 5 is of another model: The parameter stranger belongs to another" in events[-1]["message"]
    assert "Remove the folder checkpoints in rounds/0001" in events[-1]["message"]
    shutil.rmtree(checkpoints)
    _, events = run_trainer(board, capsys)
    assert events[-1]["event"] == "verdict"


def test_another_artifact_set_in_mid_round_abandons_it(board: Board, capsys: Capture) -> None:
    write_plan(board.state, msgspec.structs.replace(begin(board), artifact_sha256="another"))
    code, events = run_trainer(board, capsys)
    assert code == 0
    assert events[-1] == {"event": "abandoned", "message": "Another artifact set was installed in mid-round."}
    assert open_round(board.state) is None


def test_a_model_to_start_from_that_is_gone_abandons_the_round(board: Board, capsys: Capture) -> None:
    begin(board)
    (generation_folder(board.state.models, 0) / "parameters.safetensors").write_bytes(b"broken")
    _, events = run_trainer(board, capsys)
    assert events[-1]["event"] == "abandoned"
    assert "gen-0000/parameters.safetensors fails its checksum" in events[-1]["message"]


def test_a_round_closed_while_it_writes_a_checkpoint_ends_as_abandoned(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(board)

    def close_first(folder: CheckpointFolder, checkpoint: object) -> None:
        board.models().close_round(1, "abandoned", "A sample that it was trained on has been forgotten.")
        raise FileNotFoundError(2, "No such file or directory", "checkpoints/.step-00000025.safetensors.1.tmp")

    monkeypatch.setattr(CheckpointFolder, "save", close_first)
    code, events = run_trainer(board, capsys)
    assert code == 0
    assert events[-1]["event"] == "abandoned"


def test_a_sample_forgotten_before_the_steps_abandons_the_round(board: Board, capsys: Capture) -> None:
    plan = begin(board)
    with board.store() as store:
        store.forget([plan.sample_ids[0]])
    _, events = run_trainer(board, capsys)
    assert events[-1]["event"] == "abandoned"
    with board.store() as store:
        assert store.counts().new > 0, "the others wait for the next round"


def test_a_plan_that_does_not_parse_closes_the_round(board: Board, capsys: Capture) -> None:
    begin(board)
    (board.state.rounds / "0001" / "plan.json").write_text("{")
    code, events = run_trainer(board, capsys)
    assert code == 4
    assert "plan.json" in events[-1]["message"]
    closed = outcome(board)
    assert closed is not None
    assert closed.outcome == "failed"


def test_a_damaged_artifact_set_leaves_the_round_open(board: Board, tmp_path: Path, capsys: Capture) -> None:
    begin(board)
    copy = tmp_path / "damaged"
    shutil.copytree(board.state.artifact_set, copy)
    (copy / "mentor.onnx").write_bytes(b"broken")
    board.state.artifact_set.unlink()
    board.state.artifact_set.symlink_to(copy)
    code, events = run_trainer(board, capsys)
    assert code == 5
    assert "mentor.onnx" in events[-1]["message"]
    assert open_round(board.state) == 1


def test_a_round_that_was_never_begun_is_refused(board: Board, capsys: Capture) -> None:
    code, events = run_trainer(board, capsys)
    assert code == 4
    message = f"There is no round 1 in {board.state.rounds}."
    assert events == [{"event": "failed", "message": message, "out_of_memory": False}]


def test_a_closed_round_has_nothing_to_say(board: Board, capsys: Capture) -> None:
    begin(board)
    board.models().close_round(1, "abandoned", "because")
    assert run_trainer(board, capsys) == (0, [])


def test_the_next_round_starts_from_the_promoted_model_and_remembers_every_sample(
    board: Board, capsys: Capture
) -> None:
    begin(board, Config(training=TrainingConfig(epochs=15)))
    run_trainer(board, capsys)
    with board.store() as store:
        assert finish_round(board.state, 1, store).outcome == "promoted"
        first = set(store.training_ids())
        inputs, labels = tiny_samples(40, seed=77)
        store.add(
            NewSample(content.tobytes(), "abcd"[label], "more.png")
            for content, label in zip(inputs, labels, strict=True)
        )
        plan = begin_round(board.state, board.config, store)
    assert (plan.number, plan.start_generation) == (2, 1)
    capsys.readouterr()
    assert trainer.main(["--state-dir", str(board.state.root), "--round", "2"]) == 0
    card = read_card(board.state.rounds / "0002" / "candidate")
    assert card.parent == 1
    assert first <= set(card.sample_ids)
    assert set(plan.sample_ids) <= set(card.sample_ids)


def test_an_int8_candidate_is_what_the_gate_judges_what_serves_and_what_the_card_says(
    board: Board, capsys: Capture
) -> None:
    begin(board, Config(training=TrainingConfig(epochs=15), promotion=PromotionConfig(int8=True)))
    run_trainer(board, capsys)
    candidate = read_model(board.state.rounds / "0001" / "candidate")
    operators = {node.op_type for node in onnx.load_model_from_string(candidate.model).graph.node}
    assert "QuantizeLinear" in operators
    with board.store() as store:
        assert finish_round(board.state, 1, store).outcome == "promoted"
    (_, promoted) = board.models().list()
    assert promoted.card is not None
    assert promoted.card.precision == "int8"
    predictor = Predictor(board.state)
    inputs, labels = tiny_samples(60, seed=5)
    right = np.array(predictor.predict(inputs).labels) == np.array(list("abcd"))[labels]
    assert predictor.generation == 1
    assert right.mean() > 0.7
    assert call_mmd("models", state=board.state.root).out.splitlines()[-2].endswith(", in int8")
    board.models().rollback()
    assert predictor.predict(inputs).generation == 0


def test_an_int8_candidate_may_remember_and_be_half_way_too(tmp_path: Path, tiny_set: Path, capsys: Capture) -> None:
    board = tiny_board(tmp_path / "state", tiny_set, memory=True, blends=(0.5,))
    training = msgspec.structs.replace(board.config.training, epochs=15)
    plan = begin(board, Config(training=training, gate=GateConfig(folds=2), promotion=PromotionConfig(int8=True)))
    assert (plan.memory, plan.int8, plan.blends) == (True, True, (0.0, 0.5))
    assert run_trainer(board, capsys)[0] == 0
    candidate = read_model(board.state.rounds / "0001" / "candidate")
    assert (candidate.card.precision, candidate.card.remembers) == ("int8", len(plan.sample_ids))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_model_from_string(candidate.model).graph.initializer}
    assert kinds["mmd.memory/keys"] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.INT8 in kinds.values()
    with board.store() as store:
        assert finish_round(board.state, 1, store).outcome == "promoted"
        remembered, labels = store.load(plan.sample_ids)
    answered = Predictor(board.state).predict(remembered).labels
    assert np.mean(np.array(answered) == np.array(CLASSES)[labels]) > 0.95


def test_the_round_after_an_int8_model_starts_from_its_float_parameters(board: Board, capsys: Capture) -> None:
    config = Config(training=TrainingConfig(epochs=15), promotion=PromotionConfig(int8=True))
    begin(board, config)
    run_trainer(board, capsys)
    folder = board.state.rounds / "0001" / "candidate"
    trained = load_file(folder / "parameters.safetensors")
    assert {value.dtype for value in trained.values()} == {np.dtype(np.float32)}
    assert all(np.unique(value).size > 1 for name, value in trained.items() if name.endswith("weight"))


@pytest.mark.parametrize(("enough_holdout", "views"), [(200, 3), (1, 1)])
def test_few_samples_are_judged_in_the_views_of_the_round_and_many_as_they_are(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch, enough_holdout: int, views: int
) -> None:
    shapes = []

    def heard(*given: Any, **options: Any) -> list[Judged]:
        said = ask(*given, **options)
        shapes.append(said[0].log_probabilities.shape)
        assert all(one.log_probabilities.shape == shapes[-1] for one in said)
        return said

    monkeypatch.setattr(candidate_module, "ask", heard)
    training = TrainingConfig(epochs=2, views=3, augmentation=Augmentation(shift_pixels=1.0))
    plan = begin(board, Config(training=training, gate=GateConfig(folds=2, enough_holdout=enough_holdout)))
    assert run_trainer(board, capsys)[0] == 0
    assert len(shapes) == 2 + len(plan.fold_steps), "held out, each fold, and the anchor set"
    *judging, anchor = shapes
    assert {shape[0] for shape in judging} == {views}
    assert anchor[0] == 1


def test_the_gate_holds_a_lot_of_the_held_out_samples_at_a_time_and_says_the_same_to_the_bit(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainingConfig(epochs=2, views=2, augmentation=Augmentation(shift_pixels=1.0))
    begin(board, Config(training=training, gate=GateConfig(folds=2)))
    monkeypatch.setattr(evaluate, "_MOST_AT_ONCE", 4)
    assert run_trainer(board, capsys)[0] == 0
    verdict_path = board.state.rounds / "0001" / "verdict.json"
    whole = verdict_path.read_bytes()
    verdict_path.unlink()

    largest, load = [], SampleStore.load

    def counted(store: SampleStore, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        held_out = frozenset(ids).intersection(store.holdout_ids())
        largest.append(len(held_out))
        return load(store, ids)

    monkeypatch.setattr(SampleStore, "load", counted)
    monkeypatch.setattr(evaluate, "_LOT_BYTES", 1)
    assert run_trainer(board, capsys)[0] == 0
    assert max(largest) == 4
    assert sum(largest) == read_verdict_of(board).holdout_total > 8
    assert verdict_path.read_bytes() == whole


def test_a_held_out_sample_that_is_forgotten_while_the_gate_reads_judges_nothing(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(board)
    with board.store() as store:
        gone, *others = store.holdout_ids(labelled=True)
    asked = evidence.contenders

    def meanwhile(*given: Any) -> Any:
        with board.store() as store:
            store.forget([gone])
        return asked(*given)

    monkeypatch.setattr(workshop, "contenders", meanwhile)
    assert run_trainer(board, capsys)[0] == 0
    assert read_verdict_of(board).holdout_total == len(others)


def test_an_int8_candidate_that_lost_too_much_to_rounding_is_not_promoted(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(model: bytes, inputs: np.ndarray, *, threads: int) -> bytes:
        return quantise(model, inputs * 1e-4, threads=threads)

    monkeypatch.setattr(candidate_module, "quantise", ruined)
    begin(board, Config(training=TrainingConfig(epochs=15, memory=False), promotion=PromotionConfig(int8=True)))
    run_trainer(board, capsys)
    with board.store() as store:
        assert finish_round(board.state, 1, store).outcome == "rejected"


def test_two_rounds_are_never_open_at_once(board: Board) -> None:
    assert begin(board) == begin(board)


def test_a_listener_that_is_gone_ends_the_trainer_with_a_checkpoint(board: Board) -> None:
    begin(board, Config(training=TrainingConfig(epochs=200), gate=GateConfig(folds=0)))
    with subprocess.Popen(trainer_command(board.state, 1), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while b'"step": 12,' not in child.stdout.readline():
            pass
        child.stdout.close()
        assert child.wait(60) == 0
    assert open_round(board.state) == 1
    assert list((board.state.rounds / "0001" / "checkpoints").iterdir())


def test_promotion_needs_neither_numpy_nor_onnxruntime() -> None:
    script = (
        "import sys, mmd.supervisor.rounds, mmd.promotion.models, mmd.supervisor.trainer;"
        "print(sorted({'numpy', 'onnxruntime', 'onnx', 'PIL', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_second_trainer_gives_up_after_a_while(
    board: Board, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(board)
    monkeypatch.setattr(trainer, "_LOCK_PATIENCE_SECONDS", 0.1)
    with trainer._alone(board.state.rounds / "0001"):
        code, events = run_trainer(board, capsys)
    assert code == 1
    assert "Another trainer is at work on round 0001" in events[-1]["message"]
