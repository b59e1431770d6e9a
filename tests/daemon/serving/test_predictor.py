"""Does a program that holds a predictor always get an answer, from one whole model?"""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.models import put_candidate
from tests.support import eventually, grey, png_bytes
from tests.tiny import CLASSES, Board, tiny_board, tiny_samples

import mmd
from mmd.artifact.card import generation_folder
from mmd.artifact.export import export_model
from mmd.errors import InputRefused, StoreDamaged, UsageError
from mmd.serving.predictor import Predictor


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set, samples=8)


def model_that_says(board: Board, answer: int) -> bytes:
    """Return a whole model whose answer is always class `answer`: the bias of its head alone decides."""
    from safetensors.numpy import load_file

    parameters = load_file(board.artifact_set.path(board.artifact_set.manifest.graphs.parameters))
    constant = {name: np.zeros_like(value) for name, value in parameters.items()}
    constant["head.bias"][answer] = 5.0
    return export_model(board.artifact_set, constant)


def promote(board: Board, number: int, answer: int) -> None:
    serving = board.models().current().card.generation
    put_candidate(board.state, number, model=model_that_says(board, answer), parent=serving)
    assert board.models().finish_round(number).outcome == "promoted"


def test_stored_values_in_any_batch_give_labels_probabilities_and_the_generation(board: Board) -> None:
    inputs, _ = tiny_samples(5, seed=9)
    predictor = mmd.Predictor(board.state)
    prediction = predictor.predict(inputs)
    assert prediction.probabilities.shape == (5, 4)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert [CLASSES.index(label) for label in prediction.labels] == list(prediction.probabilities.argmax(axis=1))
    assert prediction.generation == 0
    one = predictor.predict(inputs[2])
    assert one.labels == prediction.labels[2:3]


def test_a_file_is_read_as_ingest_reads_it(board: Board, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png_bytes(grey(3)))
    np.save(tmp_path / "one.npy", np.asarray(grey(3))[None])
    predictor = Predictor(board.state.root)
    from_png = predictor.predict(tmp_path / "one.png")
    from_npy = predictor.predict(str(tmp_path / "one.npy"))
    from_array = predictor.predict(np.asarray(grey(3))[None])
    for other in (from_npy, from_array):
        np.testing.assert_array_equal(from_png.probabilities, other.probabilities)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 1, 9, 9)), "shape"),
        (np.zeros(3), "shape"),
        (np.full((1, 1, 8, 8), np.nan), "not finite"),
        (np.array([[[["x"] * 8] * 8]]), "numbers"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    board: Board, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", message: str
) -> None:
    with pytest.raises(InputRefused, match=message):
        Predictor(board.state).predict(array)


def test_a_file_that_is_no_picture_is_refused_by_name(board: Board, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputRefused, match=r"text\.png"):
        Predictor(board.state).predict(tmp_path / "text.png")
    with pytest.raises(InputRefused, match=r"missing\.png does not exist"):
        Predictor(board.state).predict(tmp_path / "missing.png")


def test_a_promoted_model_answers_the_next_call(board: Board) -> None:
    inputs, _ = tiny_samples(3, seed=9)
    predictor = Predictor(board.state)
    predictor.predict(inputs)
    promote(board, 1, answer=2)
    prediction = predictor.predict(inputs)
    assert prediction.generation == 1
    assert set(prediction.labels) == {CLASSES[2]}


def test_a_rollback_reaches_it_too(board: Board) -> None:
    inputs, _ = tiny_samples(3, seed=9)
    promote(board, 1, answer=2)
    predictor = Predictor(board.state)
    assert predictor.predict(inputs).generation == 1
    board.models().rollback()
    assert predictor.predict(inputs).generation == 0


def test_a_new_model_that_is_damaged_leaves_the_old_one_serving_and_warns_once(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, _ = tiny_samples(3, seed=9)
    promote(board, 1, answer=1)
    predictor = Predictor(board.state)
    promote(board, 2, answer=2)
    path = generation_folder(board.state.models, 2) / "mentee.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert predictor.predict(inputs).generation == 1
    assert len(caplog.records) == 1
    assert "gen-0002/mentee.onnx fails its checksum. Generation 1 goes on serving." in caplog.text
    promote(board, 3, answer=3)
    assert predictor.predict(inputs).generation == 3


def test_a_new_model_that_the_runtime_refuses_leaves_the_old_one_serving(board: Board) -> None:
    inputs, _ = tiny_samples(3, seed=9)
    predictor = Predictor(board.state)
    put_candidate(board.state, 1, model=b"no network, but its hash is right")
    board.models().finish_round(1)
    assert predictor.predict(inputs).generation == 0


def test_a_new_model_that_loads_and_does_not_run_leaves_the_old_one_serving(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx

    inputs, _ = tiny_samples(3, seed=9)
    predictor = Predictor(board.state)
    other = onnx.load_model_from_string(model_that_says(board, 1))
    other.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 9
    put_candidate(board.state, 1, model=other.SerializeToString())
    board.models().finish_round(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert predictor.predict(inputs).generation == 0
    assert len(caplog.records) == 1
    assert "Generation 1 does not run" in caplog.text


def test_a_damaged_model_at_the_start_falls_back_and_says_so(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    promote(board, 1, answer=1)
    (generation_folder(board.state.models, 1) / "mentee.onnx").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        assert Predictor(board.state).generation == 0
    assert "Generation 0 serves instead." in caplog.text


def test_without_any_whole_model_it_says_what_to_do(board: Board) -> None:
    (generation_folder(board.state.models, 0) / "mentee.onnx").write_bytes(b"broken")
    with pytest.raises(StoreDamaged, match="mmd init"):
        Predictor(board.state)


def test_without_an_artifact_set_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mmd init"):
        Predictor(tmp_path)


def test_a_link_that_vanishes_leaves_the_old_model_serving(board: Board) -> None:
    inputs, _ = tiny_samples(3, seed=9)
    predictor = Predictor(board.state)
    (board.state.models / "current").unlink()
    assert predictor.predict(inputs).generation == 0


def test_four_threads_predict_through_fifty_swaps_without_a_failure_or_a_mixture(board: Board) -> None:
    inputs, _ = tiny_samples(4, seed=9)
    predictor = Predictor(board.state)
    promote(board, 1, answer=1)
    # Generation g says class g % 4, so an answer of two models at once would show.
    seen: list[tuple[int, set[str]]] = []
    failures: list[Exception] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                prediction = predictor.predict(inputs)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
                failures.append(error)
                return
            seen.append((prediction.generation, set(prediction.labels)))
            is_over.wait(0.0005)  # lets the promoting thread have the interpreter

    predictor.predict(inputs)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 52):
        promote(board, number, answer=number % len(CLASSES))
    eventually(lambda: bool(failures) or predictor.generation == 51)
    is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert max(generation for generation, _ in seen) == 51
    assert len({generation for generation, _ in seen}) > 10
    for generation, labels in seen:
        assert labels == {CLASSES[generation % len(CLASSES)]}
