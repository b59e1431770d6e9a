"""Does the server listen where this machine alone reaches it, and nowhere else?"""

import os
import socket
import stat
from pathlib import Path

import pytest

from mmd.errors import MmdError, UsageError
from mmd.serving import address
from mmd.serving.address import listen, passed_listener
from mmd.sockets import is_answered


def test_a_path_becomes_a_socket_for_owner_and_group_alone(tmp_path: Path) -> None:
    listener = listen(str(tmp_path / "s.sock"))
    assert stat.filemode((tmp_path / "s.sock").stat().st_mode) == "srw-rw----"
    assert (listener.is_tcp, listener.url) == (False, f"unix:{tmp_path / 's.sock'}")
    listener.close()
    assert not (tmp_path / "s.sock").exists()


def test_a_path_too_deep_for_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    listen(f"unix:{deep}/s.sock").close()


@pytest.mark.parametrize(
    ("text", "host"),
    [("127.0.0.1:0", "127.0.0.1"), ("localhost:0", "127.0.0.1"), ("127.1.2.3:0", "127.1.2.3"), (":0", "127.0.0.1")],
)
def test_the_loopback_is_listened_at(text: str, host: str) -> None:
    listener = listen(text)
    assert listener.is_tcp
    assert listener.url.startswith(f"http://{host}:")
    listener.close()


def test_a_port_alone_is_one_of_the_loopback() -> None:
    listener = listen("0")
    assert listener.url.startswith("http://127.0.0.1:")
    listener.close()


@pytest.mark.parametrize(
    "text", ["0.0.0.0:80", "192.168.1.7:80", "[::]:80", ":::80", "board.local:80", "localhost.example.org:80", "*:80"]
)
def test_every_other_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="answers this machine alone"):
        listen(text)


@pytest.mark.parametrize("text", ["127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1", "localhost:", "serve"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        listen(text)


def test_a_port_in_use_is_named() -> None:
    first = listen("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    with pytest.raises(UsageError, match=f"127.0.0.1:{port} .*choose another port"):
        listen(str(port))
    first.close()


def test_the_socket_of_a_server_that_died_is_replaced(tmp_path: Path) -> None:
    listen(str(tmp_path / "s.sock")).socket.close()
    assert (tmp_path / "s.sock").is_socket()
    listen(str(tmp_path / "s.sock")).close()


def test_the_socket_of_a_server_that_lives_is_left_alone(tmp_path: Path) -> None:
    first = listen(str(tmp_path / "s.sock"))
    with pytest.raises(UsageError, match=r"listens at .* already"):
        listen(str(tmp_path / "s.sock"))
    assert (tmp_path / "s.sock").exists()
    first.close()


def test_a_server_whose_queue_is_full_counts_as_living(tmp_path: Path) -> None:
    first = listen(str(tmp_path / "s.sock"))
    first.socket.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(tmp_path / "s.sock"))
        assert is_answered(tmp_path / "s.sock")
    first.close()


def test_a_server_removes_no_socket_of_another(tmp_path: Path) -> None:
    first = listen(str(tmp_path / "s.sock"))
    (tmp_path / "s.sock").unlink()
    second = listen(str(tmp_path / "s.sock"))
    first.close()
    assert (tmp_path / "s.sock").is_socket()
    second.close()


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        listen(str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmdError, match=r"Cannot listen at .*none/s\.sock \(No such file"):
        listen(str(tmp_path / "none" / "s.sock"))


def passed(monkeypatch: pytest.MonkeyPatch, given: socket.socket, **changes: str) -> dict[str, str]:
    """Return the environment that systemd would make for the socket `given`."""
    monkeypatch.setattr(address, "_FIRST_PASSED_DESCRIPTOR", os.dup(given.fileno()))
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **changes}


def test_a_socket_that_systemd_opened_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "s.sock"))
        taken = passed_listener(passed(monkeypatch, given))
    assert taken is not None
    assert taken.url == f"unix:{tmp_path / 's.sock'}"
    taken.close()
    assert (tmp_path / "s.sock").exists()  # it is systemd's to remove


def test_a_socket_that_others_reach_is_refused_of_systemd_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as given, pytest.raises(UsageError, match="this machine alone"):
        passed_listener(passed(monkeypatch, given))


def test_sockets_that_were_passed_to_another_process_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        assert passed_listener(passed(monkeypatch, given, LISTEN_PID="1")) is None
    assert passed_listener({}) is None


def test_several_sockets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as given, pytest.raises(UsageError, match="several sockets"):
        passed_listener(passed(monkeypatch, given, LISTEN_FDS="2"))
