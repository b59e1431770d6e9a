"""Do log records reach the journal with their fields, and standard error where there is no journal?"""

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmd.supervisor.journal import SOCKET, STATE_CHANGED, JournalHandler, encoded, journal_socket


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(60)
        yield receiver


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    handler = JournalHandler(tmp_path / "socket")
    made = logging.Logger("mmd.test")
    made.addHandler(handler)
    yield made
    handler.close()


def test_an_entry_has_its_message_priority_and_fields(journal: socket.socket, log: logging.Logger) -> None:
    fields = {"STATE": "training", "ROUND": 3, "STEP": None}
    log.info("state=%s", "training", extra={"message_id": STATE_CHANGED, "fields": fields})
    assert journal.recv(65536).decode().splitlines() == [
        "MESSAGE=state=training",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=mmd",
        "LOGGER=mmd.test",
        f"MESSAGE_ID={STATE_CHANGED}",
        "MMD_STATE=training",
        "MMD_ROUND=3",
    ]


@pytest.mark.parametrize(("level", "priority"), [(logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)])
def test_the_priority_is_that_of_syslog(journal: socket.socket, log: logging.Logger, level: int, priority: int) -> None:
    log.log(level, "said")
    assert f"PRIORITY={priority}" in journal.recv(65536).decode().splitlines()


def test_a_value_of_several_lines_is_sent_with_its_length() -> None:
    assert encoded({"A": "b", "MESSAGE": "one\ntwo"}) == b"A=b\nMESSAGE\n" + struct.pack("<Q", 7) + b"one\ntwo\n"


def test_where_no_journal_listens_records_are_lines_with_their_priority(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log.warning("one\ntwo")
    assert capsys.readouterr().err == "<4>one\n<4>two\n"


def test_the_journal_is_used_only_when_standard_error_goes_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        status = os.fstat(file.fileno())
        assert journal_socket({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}) == SOCKET
        assert journal_socket({"JOURNAL_STREAM": "8:1"}) is None
        assert journal_socket({}) is None
    assert journal_socket({"JOURNAL_STREAM": "8:1"}) is None  # closed
