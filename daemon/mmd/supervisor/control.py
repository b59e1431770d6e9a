"""How do other commands talk to the running daemon? One JSON object a line over a unix socket, and one back.

Requests: `{"request": "status" | "why" | "pause" | "resume"}` and `{"request": "train", "force": bool}`.
Answers: `{"ok": true, ...}` or `{"ok": false, "error": "one line"}`. Who may write to the socket is decided by its
permissions (0660).
"""

import json
import logging
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmd.errors import MmdError
from mmd.sockets import bind_unix
from mmd.supervisor.client import Answer, ask

__all__ = ["Answer", "ControlServer", "ask"]

LONGEST_REQUEST_BYTES = 64 * 1024
MOST_CLIENTS = 32

log = logging.getLogger(__name__)


class ControlServer:
    """Listens on the control socket; its owner's selector calls it when something can be read."""

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, answer: Callable[[dict[str, Any]], Answer]
    ) -> None:
        """Listen at `path`, replacing the socket of a daemon that died. The caller holds the lock of the folder."""
        self._path = path
        self._selector = selector
        self._answer = answer
        self._clients: dict[socket.socket, bytearray] = {}
        path.unlink(missing_ok=True)
        self._listener = bind_unix(path)
        self._listener.setblocking(False)
        self._listener.listen()
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it hung up already
        if len(self._clients) >= MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = bytearray()
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        buffer = self._clients[client]
        buffer += data
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            if not self._reply(client, self._answered(line)):
                return
        if len(buffer) > LONGEST_REQUEST_BYTES:
            self._reply(client, {"ok": False, "error": "The request is too long."})
            self._drop(client)

    def _answered(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "The request is not a line of JSON."}
        if not isinstance(request, dict):
            return {"ok": False, "error": "The request is not a JSON object."}
        try:
            return {"ok": True, **self._answer(request)}
        except MmdError as error:
            return {"ok": False, "error": str(error)}
        except OSError as error:
            return {"ok": False, "error": f"The daemon cannot do that: {error}."}

    def _reply(self, client: socket.socket, answer: Answer) -> bool:
        """Send one line; a client that does not read its answers is dropped."""
        try:
            client.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self._drop(client)
            return False
        return True

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()
