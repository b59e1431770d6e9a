"""Does a class that the owner named go its whole way: stored, learned, judged, predicted, and gone with its model?"""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.support import call_mmd
from tests.tiny import CLASSES, GOLDEN, SHAPE, Board, build_tiny_set, tiny_board, tiny_samples
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.artifact.load import open_set
from mmd.artifact.session import open_session
from mmd.errors import InputRefused
from mmd.promotion.answers import log_softmax
from mmd.samples.records import NewSample
from mmd.serving.form import form_of
from mmd.serving.predictor import Predictor
from mmd.supervisor import trainer
from mmd.supervisor.rounds import begin_round, finish_round
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd.training.mentor_outputs import CachedMentor
from mmd.training.plan import RoundPlan
from mmd.training.rows import ArrayInputs

pytestmark = NEEDS_TRAINING_BUILD
SPARE = 2


@pytest.fixture(scope="module")
def spare_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_set(tmp_path_factory.mktemp("spare"), spare_classes=SPARE)


@pytest.fixture
def board(tmp_path: Path, spare_set: Path) -> Board:
    return tiny_board(tmp_path / "state", spare_set, samples=60, epochs=12)


def stripes(count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """A pattern that no network has seen."""
    rng = np.random.default_rng(8)
    bright = np.where(np.arange(8) % 2, 230.0, 20.0)
    return np.clip(bright + rng.normal(0, 25, (count, *SHAPE)), 0, 255).astype(np.uint8)


def ingest_stripes(board: Board, count: int = 40) -> None:
    with board.store() as store:
        store.name_class("stripes")
        store.add(NewSample(one.tobytes(), "stripes", f"stripes {number}") for number, one in enumerate(stripes(count)))


def round_of(board: Board) -> RoundPlan:
    with board.store() as store:
        plan = begin_round(board.state, board.config, store)
    assert trainer.main(["--state-dir", str(board.state.root), "--round", str(plan.number)]) == 0
    with board.store() as store:
        assert finish_round(board.state, plan.number, store).outcome == "promoted"
    return plan


def test_a_named_class_is_learned_judged_and_predicted(board: Board) -> None:
    before = Predictor(board.state)
    assert before.predict(stripes(3)).classes == CLASSES
    ingest_stripes(board)
    assert round_of(board).classes == (*CLASSES, "stripes")
    after = Predictor(board.state).predict(stripes(20))
    assert after.classes == (*CLASSES, "stripes")
    assert after.probabilities.shape == (20, 5)
    assert after.labels.count("stripes") > 15
    verdict = board.models().current().card.verdict
    assert verdict is not None
    assert verdict.classes == (*CLASSES, "stripes")
    assert verdict.confusion_after[4][4] > 0
    report = call_mmd("report", "--out", board.state.root / "report.html", state=board.state.root)
    assert report.code == 0, report.err
    assert "stripes" in (board.state.root / "report.html").read_text()
    ran = call_mmd("rollback", state=board.state.root)
    assert ran.code == 0, ran.err
    assert Predictor(board.state).predict(stripes(1)).classes == CLASSES, "generation 0 has not learned it"


def test_a_class_without_a_sample_to_learn_from_is_not_predicted(board: Board) -> None:
    with board.store() as store:
        store.name_class("stripes")
    assert round_of(board).classes == CLASSES
    assert Predictor(board.state).predict(stripes(1)).classes == CLASSES


def test_forgetting_its_samples_goes_back_to_a_model_without_it(board: Board) -> None:
    ingest_stripes(board)
    round_of(board)
    assert call_mmd("forget", "--label", "stripes", "--yes", state=board.state.root).code == 0
    assert Predictor(board.state).predict(stripes(1)).classes == CLASSES
    with board.store() as store:
        assert "stripes" in store.form.classes, "the name stays: its output is taken"


def test_a_label_of_a_class_named_in_mid_round_waits_for_the_next(board: Board) -> None:
    with board.store() as store:
        plan = begin_round(board.state, board.config, store)
        store.name_class("stripes")
        store.label(store.holdout_ids()[0], "stripes")
    assert trainer.main(["--state-dir", str(board.state.root), "--round", "1"]) == 0
    assert plan.classes == CLASSES


def test_the_same_set_again_keeps_the_names_and_another_one_those_that_fit(board: Board, tiny_set: Path) -> None:
    with board.store() as store:
        for name in ("x", "y"):
            store.name_class(name)
        store.label(store.training_ids()[0], "x")
        store.adopt(form_of(board.artifact_set.manifest))
        assert store.form.classes == (*CLASSES, "x", "y")
        with pytest.raises(InputRefused, match="knows no label `x`"):
            store.adopt(form_of(open_set(GOLDEN).manifest))
        store.label(store.training_ids()[0], "a")
        store.adopt(form_of(open_set(GOLDEN).manifest))
        assert store.form.classes == CLASSES
    with board.store() as store:
        assert store.form.classes == CLASSES


@pytest.mark.parametrize("soft", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("engine_name", ["portable", "ort_training"])
def test_soft_targets_say_nothing_about_a_spare_output(
    tmp_path: Path, soft: Literal["kl", "mse", "dkd"], engine_name: str
) -> None:
    artifact_set = open_set(build_tiny_set(tmp_path, spare_classes=SPARE, soft=soft))
    inputs, labels = tiny_samples(16, 5)
    labels[:10] = [4, 4, 4, 4, 4, 4, 4, 4, 5, -1]
    outputs = CachedMentor(artifact_set, ArrayInputs(inputs)).rows(np.arange(16), np.zeros(16, np.int64))
    batch = Batch(inputs.astype(np.float32) / 255, labels, outputs)
    engine = open_engine(artifact_set, name=engine_name)
    losses, gradients = engine.gradients(batch, LossWeights(alpha=0.0, betas=(0.0,), gamma=1.0, temperature=2.0))
    assert losses.soft > 0
    assert np.isfinite(losses.soft)
    bias = gradients["head.bias"]
    assert bias[:4].any()
    assert not bias[4:].any()
    _, of_labels = engine.gradients(batch, LossWeights(alpha=1.0, betas=(0.0,), gamma=0.0, temperature=2.0))
    assert of_labels["head.bias"][4] < 0, "labels teach it"


def test_soft_targets_are_the_divergence_over_the_known_classes(spare_set: Path) -> None:
    artifact_set = open_set(spare_set)
    manifest = artifact_set.manifest
    inputs, labels = tiny_samples(16, 5)
    outputs = CachedMentor(artifact_set, ArrayInputs(inputs)).rows(np.arange(16), np.zeros(16, np.int64))
    values = inputs.astype(np.float32) / 255
    (logits,) = open_session(artifact_set.path(manifest.graphs.inference)).run([manifest.logits], {"x": values})
    mentor, mentee = (log_softmax(of / 2.0) for of in (outputs[manifest.mentor_logits], logits[:, : len(CLASSES)]))
    expected = 4.0 * (np.exp(mentor) * (mentor - mentee)).sum(axis=1).mean()
    weights = LossWeights(alpha=0.0, betas=(0.0,), gamma=1.0, temperature=2.0)
    losses = open_engine(artifact_set).losses(Batch(values, labels, outputs), weights)
    assert losses.soft == pytest.approx(expected, rel=1e-5)


def test_the_command_names_a_class_and_labels_a_sample(board: Board) -> None:
    with board.store() as store:
        identifier = store.training_ids()[0]
    root = board.state.root
    refused = call_mmd("label", identifier[:12], "owl", state=root)
    assert (refused.code, len(refused.error_lines)) == (3, 1)
    assert "mmd label --new" in refused.err
    named = call_mmd("label", "--new", "owl", identifier[:12], state=root)
    assert named.code == 0, named.err
    assert f"{identifier[:12]} is `owl` now" in named.out
    assert call_mmd("label", "--new", "owl", state=root).code == 3
    assert call_mmd("label", "--new", "a/b", state=root).code == 3
    assert call_mmd("label", "--new", "fox", state=root).code == 0
    full = call_mmd("label", "--new", "elk", state=root)
    assert (full.code, "all 2 of them are named: owl, fox" in full.err) == (3, True)
    assert call_mmd("label", state=root).code == 2
    assert call_mmd("label", identifier, "a", "--new", "elk", state=root).code == 2


def test_an_unknown_sample_names_no_class(board: Board) -> None:
    assert call_mmd("label", "--new", "owl", "0000", state=board.state.root).code == 3
    with board.store() as store:
        assert store.form.classes == CLASSES


def test_a_folder_of_a_new_class_is_ingested_when_that_is_said(board: Board, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", stripes(5))
    root = board.state.root
    assert call_mmd("ingest", "--label", "stripes", tmp_path / "new.npy", state=root).code == 3
    assert call_mmd("ingest", "--new", tmp_path / "new.npy", state=root).code == 2
    assert call_mmd("ingest", "--label", "typo", "--new", tmp_path / "none.npy", state=root).code == 3
    with board.store() as store:
        assert store.form.classes == CLASSES, "nothing there, nothing named"
    ran = call_mmd("ingest", "--label", "stripes", "--new", tmp_path / "new.npy", "--json", state=root)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["stored"] == 5
    assert call_mmd("ingest", "--label", "stripes", "--new", tmp_path / "new.npy", state=root).code == 0


def test_a_set_without_spare_outputs_names_none(tmp_path: Path) -> None:
    board = tiny_board(tmp_path / "state", GOLDEN, samples=10)
    ran = call_mmd("label", "--new", "owl", state=board.state.root)
    assert (ran.code, "this one has none; `spare_classes` in the recipe" in ran.err) == (3, True)
