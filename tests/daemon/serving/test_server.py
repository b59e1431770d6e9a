"""Does the server answer every request, with what `mmd predict` says or with one line that says what is wrong?"""

import contextlib
import errno
import io
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.daemon.serving.test_predictor import promote
from tests.fakes.serving import served
from tests.support import call_mmd, eventually, grey, png_bytes, write_png
from tests.tiny import CLASSES, Board, tiny_board, tiny_samples
from watchdog.observers import Observer

from mmd.artifact.card import generation_folder
from mmd.artifact.load import read_set
from mmd.artifact.manifest import encode_manifest, manifest_path
from mmd.serving.client import UnixConnection
from mmd.serving.model_watch import ModelWatch
from mmd.serving.predictor import Prediction, Predictor
from mmd.sockets import short_address


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set, samples=4)


def ask(path: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
    with contextlib.closing(UnixConnection(path)) as connection:
        return connection.ask(method, target, body)


def error(answer: tuple[int, str]) -> tuple[int, str]:
    """Return the status and the one line of a request that was declined."""
    status, text = answer
    assert text.count("\n") == 1
    (message,) = json.loads(text).values()
    return status, message


def npy(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_an_answer_is_to_the_byte_what_the_command_prints(board: Board, tmp_path: Path) -> None:
    picture = write_png(tmp_path / "one.png", 1)
    with served(board) as path:
        answer = ask(path, "POST", f"/predict?path={picture}", picture.read_bytes())
    assert answer == (200, call_mmd("predict", "--json", picture, state=board.state.root).out)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_batch_gets_a_line_a_row_as_from_the_command(board: Board, tmp_path: Path, suffix: str) -> None:
    batch = tmp_path / f"batch{suffix}"
    inputs, labels = tiny_samples(70, seed=9)
    if suffix == ".npy":
        np.save(batch, inputs)
    else:
        np.savez_compressed(batch, inputs=inputs, labels=labels)
    with served(board) as path:
        status, text = ask(path, "POST", f"/predict?path={batch}", batch.read_bytes())
    assert (status, text.count("\n")) == (200, 70)
    assert text == call_mmd("predict", "--json", batch, state=board.state.root).out


def test_a_sample_without_a_name_has_that_of_a_pipe(board: Board) -> None:
    with served(board) as path:
        assert json.loads(ask(path, "POST", "/predict", png_bytes(grey(1)))[1])["path"] == "-"


def test_health_and_model_say_what_serves(board: Board) -> None:
    promote(board, 1, answer=2)
    with served(board) as path:
        assert json.loads(ask(path, "GET", "/health")[1]) == {"status": "ok", "generation": 1}
        model = json.loads(ask(path, "GET", "/model")[1])
    assert model == {
        "generation": 1,
        "sha256": board.models().current().card.sha256,
        "phase": "probation",
        "classes": list(CLASSES),
        "input": "image 1x8x8",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request has no body; send the bytes of a file."),
        (b"a letter", "The sample is not a PNG or JPEG image (its content looks like text)."),
        (npy(np.zeros((2, 1, 9, 9), np.uint8)), "has shape 2x1x9x9"),
        (npy(np.full((1, 8, 8), np.nan)), "has NaN"),
        (npy(np.zeros((3, 1, 8, 8), np.uint8))[:-5], "is damaged or truncated"),
        (b"PK\x03\x04 and no more", "is damaged or truncated"),
    ],
)
def test_a_sample_that_cannot_be_read_is_declined_in_one_line(board: Board, body: bytes, message: str) -> None:
    with served(board) as path:
        status, said = error(ask(path, "POST", "/predict", body))
        assert ask(path, "GET", "/health")[0] == 200
    assert (status, message in said) == (400, True), said


def test_a_request_that_is_too_big_is_declined(board: Board) -> None:
    with served(board, max_request_mib=0.01) as path:
        status, said = error(ask(path, "POST", "/predict", bytes(20_000)))
        assert ask(path, "GET", "/health")[0] == 200
    assert (status, said) == (413, "Request Entity Too Large: exceeds max_body of 10485.")


def test_neither_what_is_sent_nor_what_is_said_about_it_is_written_to_a_file(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    many = npy(np.zeros((20_000, 1, 8, 8), np.uint8))
    too_much = b"%x\r\n%b\r\n" % (20_000, bytes(20_000))
    with served(board, max_request_mib=2.0) as path:
        status, text = ask(path, "POST", "/predict", many)
    assert (status, text.count("\n")) == (200, 20_000)
    assert len(text) > 2**20
    with served(board, max_request_mib=0.01) as path, contextlib.closing(UnixConnection(path)) as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.request("POST", "/predict", too_much, {"Transfer-Encoding": "chunked"})
        assert connection.getresponse().status == 413


def test_unknown_places_and_methods_are_named(board: Board) -> None:
    with served(board) as path:
        assert error(ask(path, "GET", "/predictions")) == (
            404,
            "There is no '/predictions' here; there are POST /predict, POST /samples, GET /health, GET /model.",
        )
        assert error(ask(path, "GET", "/predict")) == (405, "/predict takes POST, not GET.")


def test_what_is_no_http_is_declined_in_one_line(board: Board) -> None:
    with served(board) as path, socket.socket(socket.AF_UNIX) as client, short_address(path) as address:
        client.connect(address)
        client.sendall(b"GARBAGE\r\n\r\n")
        answer = client.makefile().read()
    assert answer.startswith("HTTP/1.0 400 Bad Request")
    assert answer.endswith('{"error": "Bad Request: Start line is invalid."}\n')


def test_a_web_page_is_declined(board: Board) -> None:
    with served(board) as path, contextlib.closing(UnixConnection(path)) as connection:
        connection.request("POST", "/predict", png_bytes(grey(1)), {"Origin": "https://example.org"})
        assert connection.getresponse().status == 403


def test_what_nobody_foresaw_costs_one_request_and_shows_no_traceback(board: Board) -> None:
    class Broken(Predictor):
        def predict(self, *arguments: Any, **options: Any) -> Prediction:
            raise ZeroDivisionError("once")

    with served(board, Broken(board.state)) as path:
        status, said = error(ask(path, "POST", "/predict", b"x"))
        assert ask(path, "GET", "/health")[0] == 200
    assert status == 500
    assert said.startswith("ZeroDivisionError: once")


def test_samples_are_not_kept_unless_the_owner_allows_it(board: Board) -> None:
    with served(board) as path:
        status, said = error(ask(path, "POST", f"/samples?label={CLASSES[0]}", png_bytes(grey(1))))
    assert (status, said) == (403, "The owner has not allowed to keep samples: serve.keep_samples is false.")
    with board.store() as store:
        assert store.counts().total == 4


def test_a_sample_that_is_kept_is_the_one_that_ingest_would_store(board: Board, tmp_path: Path) -> None:
    picture = write_png(tmp_path / "one.png", 1)
    with served(board, keep_samples=True) as path:
        status, text = ask(path, "POST", f"/samples?label={CLASSES[2]}&path=one.png", picture.read_bytes())
    kept = json.loads(text)
    assert (status, kept["path"], kept["outcome"], kept["label"]) == (200, "one.png", "stored", CLASSES[2])
    again = json.loads(call_mmd("ingest", "--json", "--label", CLASSES[2], picture, state=board.state.root).out)
    assert (again["stored"], again["already_stored"], again["samples"][0]["id"]) == (0, 1, kept["id"])


def test_an_array_with_labels_is_kept_whole(board: Board) -> None:
    inputs, labels = tiny_samples(5, seed=9)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, labels=labels)
    with served(board, keep_samples=True) as path:
        _, text = ask(path, "POST", "/samples", buffer.getvalue())
    assert [json.loads(line)["label"] for line in text.splitlines()] == [CLASSES[label] for label in labels]


@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        ("/samples?label=nonsense", png_bytes(grey(1)), "Nothing was stored: the artifact set knows no label"),
        ("/samples", b"a letter", "Nothing was stored: is not a PNG"),
        ("/samples", b"", "The request has no body"),
    ],
)
def test_a_sample_that_cannot_be_kept_leaves_nothing(board: Board, target: str, body: bytes, message: str) -> None:
    with served(board, keep_samples=True) as path:
        status, said = error(ask(path, "POST", target, body))
    assert (status, said.startswith(message)) == (400, True), said
    with board.store() as store:
        assert store.counts().total == 4


@contextlib.contextmanager
def followed(board: Board) -> Iterator[Predictor]:
    """Yield a predictor as `mmd serve` holds it."""
    predictor = Predictor(board.state, is_refreshed=True)
    watch = ModelWatch(board.state, predictor.refresh)
    try:
        yield predictor
    finally:
        watch.stop()


def generation(path: Path) -> int:
    answer: int = json.loads(ask(path, "GET", "/health")[1])["generation"]
    return answer


def test_a_new_model_a_rollback_and_a_damaged_one_are_noticed_without_a_request(board: Board) -> None:
    with followed(board) as predictor, served(board, predictor) as path:
        promote(board, 1, answer=2)
        eventually(lambda: predictor.generation == 1)
        assert json.loads(ask(path, "POST", "/predict", png_bytes(grey(1)))[1])["label"] == CLASSES[2]
        board.models().rollback()
        eventually(lambda: generation(path) == 0)
        (generation_folder(board.state.models, 1) / "mentee.onnx").write_bytes(b"broken")
        (board.state.models / "current").unlink()
        (board.state.models / "current").symlink_to("gen-0001")
        promote(board, 2, answer=3)
        eventually(lambda: generation(path) == 2)


@pytest.mark.parametrize("has_inotify", [True, False])
def test_another_set_is_noticed_without_a_request(
    board: Board, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_inotify: bool
) -> None:
    def refuse(observer: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    if not has_inotify:
        monkeypatch.setattr(Observer, "start", refuse)
    call_mmd("forget", "--all", "--yes", state=board.state.root)
    board.state.artifact_set.unlink()  # a link, where `mmd init` makes a copy
    shutil.copytree(tiny_set, board.state.artifact_set)
    manifest = read_set(tiny_set).manifest
    with followed(board) as predictor, served(board, predictor) as path:
        for again in ("new", "newer"):
            other = shutil.copytree(tiny_set, tmp_path / again)
            names = tuple(f"{again} {name}" for name in CLASSES)
            renamed = msgspec.structs.replace(manifest, classes=names)
            manifest_path(other).write_bytes(encode_manifest(renamed))
            ran = call_mmd("init", "--set", other, "--force", state=board.state.root)
            assert ran.code == 0, ran.err
            eventually(lambda names=names: predictor.model.classes == names)
            assert json.loads(ask(path, "POST", "/predict", png_bytes(grey(1)))[1])["label"] in names


def test_a_request_never_loads_a_model(board: Board) -> None:
    predictor = Predictor(board.state, is_refreshed=True)
    promote(board, 1, answer=2)
    assert predictor.predict(tiny_samples(1, seed=9)[0]).generation == 0
    predictor.refresh()
    assert predictor.predict(tiny_samples(1, seed=9)[0]).generation == 1


def test_a_predictor_that_looks_while_the_set_is_replaced_looks_again(board: Board) -> None:
    predictor = Predictor(board.state)
    promote(board, 1, answer=2)
    away = board.state.artifact_set.rename(board.state.root / "away")
    assert predictor.predict(tiny_samples(1, seed=9)[0]).generation == 0
    away.rename(board.state.artifact_set)
    assert predictor.predict(tiny_samples(1, seed=9)[0]).generation == 1


def test_every_request_is_answered_by_one_whole_model_through_twenty_swaps(board: Board) -> None:
    promote(board, 1, answer=1)
    failures: list[object] = []
    seen: list[tuple[int, str]] = []
    is_over = threading.Event()

    def client(path: Path) -> None:
        with contextlib.closing(UnixConnection(path)) as connection:
            while not is_over.is_set():
                status, text = connection.ask("POST", "/predict", png_bytes(grey(1)))
                if status != 200:
                    failures.append(text)
                    return
                answer = json.loads(text)
                seen.append((answer["generation"], answer["label"]))

    with followed(board) as predictor, served(board, predictor) as path:
        clients = [threading.Thread(target=client, args=(path,)) for _ in range(3)]
        for each in clients:
            each.start()
        for number in range(2, 22):
            promote(board, number, answer=number % len(CLASSES))
        eventually(lambda: bool(failures) or (bool(seen) and seen[-1][0] == 21))
        is_over.set()
        for each in clients:
            each.join()
    assert failures == []
    assert all(label == CLASSES[number % len(CLASSES)] for number, label in seen)


class Slow(Predictor):
    """Answers when it is told to."""

    def __init__(self, board: Board) -> None:
        super().__init__(board.state)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def predict(self, *arguments: Any, **options: Any) -> Prediction:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        return super().predict(*arguments, **options)


def test_a_server_that_is_told_to_stop_finishes_what_it_took(board: Board) -> None:
    slow = Slow(board)
    answers: list[int] = []
    has_sent = threading.Semaphore(0)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(served(board, slow, workers=1))
        idle = stack.enter_context(contextlib.closing(UnixConnection(path)))
        assert idle.ask("GET", "/health")[0] == 200

        def client() -> None:
            with contextlib.closing(UnixConnection(path)) as connection:
                connection.request("POST", "/predict", png_bytes(grey(1)))
                has_sent.release()
                answers.append(connection.getresponse().status)

        # One is being answered, the other waits for the only worker.
        clients = [threading.Thread(target=client) for _ in range(2)]
        for each in clients:
            each.start()
            assert has_sent.acquire(timeout=60)
        assert slow.is_asked.wait(60)
        threading.Timer(0.3, slow.may_answer.set).start()
    for each in clients:
        each.join()
    assert answers == [200, 200]


def test_more_clients_than_allowed_wait_and_are_answered(board: Board) -> None:
    with served(board, max_connections=1, idle_seconds=1.0) as path:
        first = UnixConnection(path)
        assert first.ask("GET", "/health")[0] == 200  # and keeps its connection
        answers: list[int] = []
        second = threading.Thread(target=lambda: answers.append(ask(path, "GET", "/health")[0]))
        second.start()
        first.close()
        second.join(60)
    assert answers == [200]


def test_a_client_that_sends_half_a_request_and_stops_is_hung_up_on(board: Board) -> None:
    with served(board, idle_seconds=1.0) as path, socket.socket(socket.AF_UNIX) as client:
        with short_address(path) as address:
            client.connect(address)
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        client.settimeout(60)
        assert client.recv(100) == b""
