"""Does `mmd serve` answer exactly as `mmd predict` does, through training and swaps, and leave when it is told to?"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from tests.fakes.serving import answers, serving
from tests.sounds import build_sound_set, varied_tone, write_wav
from tests.support import call_mmd, eventually, run_mmd, write_png
from tests.tiny import Board, tiny_board
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.serving.application import _host_name
from mmd.serving.client import UnixConnection
from mmd_tools.fuse import fuse
from mmd_tools.nets import NetRecipe, build_net
from mmd_tools.recipe import InputRecipe, Recipe


@pytest.fixture
def board(tmp_path: Path, tiny_set: Path) -> Board:
    return tiny_board(tmp_path / "state", tiny_set)


def ask(state: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
    with contextlib.closing(UnixConnection(state / "serve.sock")) as connection:
        return connection.ask(method, target, body)


def require_the_same_answer(state: Path, *files: Path) -> None:
    """Compare byte for byte what the server and the command say about the files."""
    with serving(state):
        answered = [ask(state, "POST", f"/predict?path={file}", file.read_bytes()) for file in files]
    printed = [call_mmd("predict", "--json", file, state=state).out for file in files]
    assert answered == [(200, text) for text in printed]


def test_an_image_gets_the_answer_of_predict(board: Board, tmp_path: Path) -> None:
    big = write_png(tmp_path / "big.png", 2, size=(40, 30))
    require_the_same_answer(board.state.root, write_png(tmp_path / "one.png", 1), big)


@NEEDS_TRAINING_BUILD
def test_a_recording_gets_the_answer_of_predict(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert call_mmd("init", "--set", build_sound_set(tmp_path), state=state).code == 0
    require_the_same_answer(
        state,
        write_wav(tmp_path / "low.wav", varied_tone(0, 7)),
        write_wav(tmp_path / "high.wav", varied_tone(1, 8), 44100, kind="f4"),
    )


@NEEDS_TRAINING_BUILD
def test_a_window_of_measurements_gets_the_answer_of_predict(tmp_path: Path) -> None:
    state, rng = tmp_path / "state", np.random.default_rng(1)
    assert call_mmd("init", "--set", tensor_set(tmp_path), state=state).code == 0
    np.save(tmp_path / "one.npy", rng.normal(size=(3, 12)))
    np.savez(tmp_path / "many.npz", inputs=rng.normal(size=(5, 3, 1, 12)).astype(np.float32))
    np.savetxt(tmp_path / "one.csv", rng.normal(size=(12, 3)), delimiter=",")
    require_the_same_answer(state, *(tmp_path / name for name in ("one.npy", "many.npz", "one.csv")))


def tensor_set(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(12, 3, 1, 12)).astype(np.float32)
    np.savez(folder / "anchor.npz", inputs=inputs, labels=np.arange(12) % 2)
    for name, seed in (("mentor", 1), ("mentee", 2)):
        onnx.save(
            build_net(NetRecipe(layers=("flatten", "fc 2"), input=(3, 1, 12), seed=seed)), folder / f"{name}.onnx"
        )
    recipe = Recipe(
        name="motion",
        licence="MIT",
        classes=("still", "moving"),
        anchor=str(folder / "anchor.npz"),
        input=InputRecipe(kind="tensor"),
    )
    fuse(folder / "mentor.onnx", folder / "mentee.onnx", recipe, folder / "set")
    return folder / "set"


def test_a_round_in_training_and_its_promotion_disturb_no_request(board: Board, tmp_path: Path) -> None:
    state, picture = board.state.root, write_png(tmp_path / "one.png", 1)
    with serving(state):
        trained = run_mmd("train", "--force", state=state)
        assert trained.code == 0, trained.err
        serves = board.models().current().card.generation
        assert serves == 1, trained.out
        eventually(lambda: json.loads(ask(state, "GET", "/health")[1])["generation"] == serves)
        answer = ask(state, "POST", f"/predict?path={picture}", picture.read_bytes())
    assert answer == (200, call_mmd("predict", "--json", picture, state=state).out)


def test_it_says_where_it_answers_tells_systemd_and_leaves_nothing(board: Board, tmp_path: Path) -> None:
    state = board.state.root
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        with serving(state, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            assert systemd.recv(4096).startswith(b"READY=1\nSTATUS=generation 0 answers at unix:")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert systemd.recv(4096).startswith(b"STOPPING=1")
            assert process.stderr is not None
            assert process.stderr.read() == f"mmd: generation 0 answers at unix:{state}/serve.sock\n"
    assert not (state / "serve.sock").exists()


def test_an_interrupt_ends_it_too(board: Board) -> None:
    with serving(board.state.root) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_it_answers_at_the_loopback_and_only_for_local_names(board: Board) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = f'[serve]\nlisten = "127.0.0.1:{port}"\n'
    with serving(board.state.root, "--debug", config=config) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"mmd: generation 0 answers at http://127.0.0.1:{port}\n"
        for host, status in ((f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200), ("evil.example.org", 403)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health", headers={"Host": host})
            assert connection.getresponse().status == status
            connection.close()


@pytest.mark.parametrize("host", ["[::1", "evil.example.org:80"])
def test_a_host_that_is_no_local_name_is_forbidden(host: str) -> None:
    assert _host_name(host) not in ("localhost", "127.0.0.1", "::1")


def test_a_second_server_at_the_same_socket_is_refused(board: Board) -> None:
    with serving(board.state.root):
        ran = run_mmd("serve", state=board.state.root)
        assert ran.code == 2
        assert ran.error_lines == [
            f"mmd: A server listens at {board.state.serve_socket} already; stop that one first, "
            "or choose another --listen."
        ]
        assert answers(board.state.serve_socket)


def test_the_socket_of_a_killed_server_is_taken_over(board: Board) -> None:
    with serving(board.state.root) as process:
        process.kill()
        process.wait(60)
        assert board.state.serve_socket.is_socket()
        with serving(board.state.root):
            assert answers(board.state.serve_socket)


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "192.168.0.2:8000", "board.local:8000"])
def test_an_address_that_others_reach_is_refused(board: Board, address: str) -> None:
    ran = call_mmd("serve", "--listen", address, state=board.state.root)
    assert ran.code == 2
    (line,) = ran.error_lines
    assert f"answers this machine alone and does not listen at '{address}'" in line


def test_without_an_artifact_set_it_says_what_to_do(tmp_path: Path) -> None:
    ran = call_mmd("serve", state=tmp_path)
    assert (ran.code, len(ran.error_lines)) == (2, 1)
    assert "mmd init" in ran.err


def test_without_waitress_it_says_how_to_get_it(board: Board) -> None:
    hidden = {name: None for name in sys.modules if name.split(".")[0] == "waitress"} | {"waitress": None}
    with mock.patch.dict(sys.modules, hidden):
        sys.modules.pop("mmd.serving.server", None)
        ran = call_mmd("serve", state=board.state.root)
    assert ran.error_lines == [
        "mmd: `mmd serve` needs waitress, which is not installed; `pip install 'mmd-daemon[serve]'` brings it."
    ]


def test_a_socket_that_systemd_passes_is_answered_at(board: Board, tmp_path: Path) -> None:
    """As a service with a socket unit: the descriptor is number 3, and it stays when the server leaves."""
    path = tmp_path / "passed.sock"
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(path))
        given.listen()
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), "
            "LISTEN_FDS='1'); os.execv(sys.executable, [sys.executable, '-m', 'mmd', 'serve'])"
        )
        environment = {**os.environ, "MMD_STATE_DIR": str(board.state.root), "MMD_CONFIG": ""}
        with subprocess.Popen(
            [sys.executable, "-c", start, str(given.fileno())],
            pass_fds=[given.fileno()],
            env=environment,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert answers(path)  # it was connected to before anybody served
            process.terminate()
            assert process.wait(60) == 0
    assert path.is_socket()
    assert not board.state.serve_socket.exists()
