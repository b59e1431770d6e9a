"""Does systemd hear what it must?"""

import logging
import os
import socket
import uuid
from pathlib import Path

import pytest

from mmd.supervisor.notify import Notifier


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(60)
    return listener


def test_a_start_watch_and_stop_are_told(tmp_path: Path) -> None:
    with listen(str(tmp_path / "notify")) as listener:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
        notifier.ready("state=idle")
        notifier.status("state=training")
        notifier.alive()
        notifier.stopping()
        heard = [listener.recv(4096).decode() for _ in range(4)]
    assert heard == [
        f"READY=1\nSTATUS=state=idle\nMAINPID={os.getpid()}",
        "STATUS=state=training",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_an_abstract_socket_is_reached() -> None:
    name = f"mmd-test-{uuid.uuid4()}"
    with listen(f"\0{name}") as listener:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("hello")
        assert listener.recv(4096) == b"STATUS=hello"


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    notifier.alive()
    assert notifier.watchdog_seconds is None


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_kept_only_when_it_watches_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment).watchdog_seconds == seconds


def test_no_word_of_the_watchdog_without_one(tmp_path: Path) -> None:
    with listen(str(tmp_path / "notify")) as listener:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.alive()
        notifier.status("after")
        assert listener.recv(4096) == b"STATUS=after"


def test_a_service_manager_that_went_away_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with caplog.at_level(logging.WARNING):
        notifier.status("one")
        notifier.status("two")
    assert [record.getMessage() for record in caplog.records] == [
        "cannot notify the service manager: No such file or directory"
    ]
