"""How does a command ask the running daemon? Imports little: `mmd status` is to answer at once."""

import json
from pathlib import Path
from typing import Any

from mmd.errors import DaemonNotRunning, MmdError

ANSWER_SECONDS = 5.0

Answer = dict[str, Any]


def ask(path: Path, request: dict[str, Any], *, seconds: float = ANSWER_SECONDS) -> Answer:
    """Send one request to the daemon behind `path` and return its answer.

    Raises `DaemonNotRunning` when nobody answers, `MmdError` with the daemon's own words when it refuses.
    """
    try:
        path.stat()
        line = _line_of_answer(path, json.dumps(request).encode() + b"\n", seconds)
    except PermissionError as error:
        raise MmdError(
            f"You may not talk to the daemon at {path}; ask as its user, or join the group of that file."
        ) from error
    except TimeoutError as error:
        raise DaemonNotRunning(f"The daemon at {path} does not answer; see its log.") from error
    except OSError as error:
        raise DaemonNotRunning(f"No daemon is running for {path.parent}; start it with `mmd run`.") from error
    try:
        answer: Answer = json.loads(line)
    except ValueError as error:
        raise DaemonNotRunning(f"The daemon at {path} broke off; see its log.") from error
    if not answer.get("ok"):
        raise MmdError(str(answer.get("error", "The daemon refused and did not say why.")))
    return answer


def _line_of_answer(path: Path, line: bytes, seconds: float) -> bytes:
    # Not above: where no daemon runs, `mmd status` needs neither.
    import socket

    from mmd.sockets import short_address

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection,
        short_address(path) as address,
    ):
        connection.settimeout(seconds)
        connection.connect(address)
        connection.sendall(line)
        return connection.makefile("rb").readline()
