"""How do log records reach the journal of systemd with their fields? In its native protocol, over one socket.

`journalctl MMD_STATE=training` finds when training began; `journalctl MESSAGE_ID=...` every change of state. Where
standard error is not the journal, or its socket cannot be reached, records are lines there that begin with their
priority, `sd-daemon(3)`.
"""

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
STATE_CHANGED = "a98ea627df8c4634b540c055341df98f"
"""MESSAGE_ID of each change of state or of the reasons."""
_IDENTIFIER = "mmd"


class JournalHandler(logging.Handler):
    """Sends each record as one entry of the journal.

    A record may carry `message_id`, and `fields`: names in capitals (they get the prefix MMD_) with their values,
    where `None` leaves one out.
    """

    def __init__(self, path: Path | None) -> None:
        """Send to the socket at `path`; `None`: write lines."""
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"MESSAGE": self.format(record), "PRIORITY": str(_priority(record)), "SYSLOG_IDENTIFIER": _IDENTIFIER}
        entry["LOGGER"] = record.name
        if message_id := getattr(record, "message_id", None):
            entry["MESSAGE_ID"] = message_id
        fields: Mapping[str, object] = getattr(record, "fields", {})
        entry |= {f"MMD_{name}": str(value) for name, value in fields.items() if value is not None}
        try:
            if self._path is None:
                raise FileNotFoundError
            self._socket.sendto(encoded(entry), str(self._path))
        except OSError:
            sys.stderr.write("".join(f"<{entry['PRIORITY']}>{line}\n" for line in entry["MESSAGE"].splitlines()))

    def close(self) -> None:
        self._socket.close()
        super().close()


def journal_socket(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the journal's socket if standard error goes there, as `JOURNAL_STREAM` tells; `None` if elsewhere."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return None
    return SOCKET if environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}" else None


def encoded(entry: Mapping[str, str]) -> bytes:
    """Return one entry in the journal's own format: lines, or a length and the bytes where a value has line ends."""
    parts = []
    for name, value in entry.items():
        data = value.encode(errors="replace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", struct.pack("<Q", len(data)), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


def _priority(record: logging.LogRecord) -> int:
    return 6 if record.levelno < logging.WARNING else 4 if record.levelno < logging.ERROR else 3
