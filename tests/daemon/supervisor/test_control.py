"""Can other commands talk to the daemon, and can nothing that they say hurt it?"""

import contextlib
import errno
import json
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmd.errors import DaemonNotRunning, MmdError, UsageError
from mmd.supervisor.control import LONGEST_REQUEST_BYTES, MOST_CLIENTS, ControlServer, ask


def reply(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("request") == "refuse":
        raise UsageError("Not that.")
    if request.get("request") == "fail":
        raise OSError(errno.EROFS, "Read-only file system")
    return {"heard": request}


@contextlib.contextmanager
def server(path: Path) -> Iterator[ControlServer]:
    """Serve from a thread until the end of the block."""
    selector = selectors.DefaultSelector()
    made = ControlServer(path, selector, reply)
    wake, woken = socket.socketpair()
    is_over = threading.Event()
    selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(1))

    def serve() -> None:
        while not is_over.is_set():
            for key, _ in selector.select():
                key.data()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield made
    finally:
        is_over.set()
        wake.send(b"!")
        thread.join()
        made.close()
        selector.close()
        wake.close()
        woken.close()


def send(path: Path, data: bytes) -> bytes:
    """Send raw bytes and return everything that comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def test_a_request_is_answered(tmp_path: Path) -> None:
    with server(tmp_path / "c.sock"):
        assert ask(tmp_path / "c.sock", {"request": "status"}) == {"ok": True, "heard": {"request": "status"}}


def test_a_refusal_comes_back_in_its_own_words(tmp_path: Path) -> None:
    with server(tmp_path / "c.sock"), pytest.raises(MmdError, match=r"^Not that\.$"):
        ask(tmp_path / "c.sock", {"request": "refuse"})


def test_a_disk_that_fails_is_told_and_survived(tmp_path: Path) -> None:
    with server(tmp_path / "c.sock"):
        with pytest.raises(MmdError, match=r"The daemon cannot do that: .*Read-only file system"):
            ask(tmp_path / "c.sock", {"request": "fail"})
        assert ask(tmp_path / "c.sock", {"request": "status"})["ok"]


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-quite-a-long-name"] * 6)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 108
    with server(folder / "control.sock"):
        assert ask(folder / "control.sock", {"request": "why"})["ok"]


def test_the_socket_is_for_its_user_and_group_only(tmp_path: Path) -> None:
    with server(tmp_path / "c.sock"):
        assert stat.S_IMODE((tmp_path / "c.sock").stat().st_mode) == 0o660


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonNotRunning, match="No daemon is running for"):
        ask(path, {"request": "status"})
    with server(path):
        assert ask(path, {"request": "status"})["ok"]
    assert not path.exists()


def test_without_a_socket_no_daemon_is_running(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunning, match="start it with `mmd run`"):
        ask(tmp_path / "c.sock", {"request": "status"})


def test_a_state_folder_that_is_not_there_has_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunning):
        ask(tmp_path / "gone" / "c.sock", {"request": "status"})


def test_who_may_not_use_the_socket_is_told_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with server(tmp_path / "c.sock"), monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(MmdError, match=r"You may not talk to the daemon at .*c.sock; ask as its user"):
            ask(tmp_path / "c.sock", {"request": "status"})


def test_a_daemon_that_hangs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(DaemonNotRunning, match="does not answer"):
            ask(path, {"request": "status"}, seconds=0.1)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"hello\n", "The request is not a line of JSON."),
        (b"\xff\xfe\n", "The request is not a line of JSON."),
        (b"[1]\n", "The request is not a JSON object."),
        (b"[" * 5000 + b"\n", "The request is not a line of JSON."),
        (b"x" * (LONGEST_REQUEST_BYTES + 70_000), "The request is too long."),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_survived(tmp_path: Path, line: bytes, error: str) -> None:
    path = tmp_path / "c.sock"
    with server(path):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            assert json.loads(send(path, line)) == {"ok": False, "error": error}
        assert ask(path, {"request": "status"})["ok"]


def test_several_requests_in_one_breath_are_answered_in_order(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with server(path):
        answers = [json.loads(line) for line in send(path, b'{"a": 1}\n{"a": 2}\n').splitlines()]
    assert [answer["heard"]["a"] for answer in answers] == [1, 2]


def test_a_client_that_hangs_up_in_mid_sentence_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with server(path):
        assert send(path, b'{"request": "sta') == b""
        assert ask(path, {"request": "status"})["ok"]


def test_more_clients_than_allowed_are_turned_away_and_the_first_are_served(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with server(path), contextlib.ExitStack() as stack:
        clients = []
        for _ in range(MOST_CLIENTS + 5):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
            client.settimeout(60)
            clients.append(client)
        clients[0].sendall(b'{"a": 1}\n')
        assert json.loads(clients[0].makefile("rb").readline())["ok"]
        assert clients[-1].recv(1) == b""
