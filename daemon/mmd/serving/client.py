"""How does a Python program ask the server? Over its Unix socket, with the standard library alone."""

import contextlib
import http.client
import socket
from pathlib import Path

from mmd.sockets import short_address

ANSWER_SECONDS = 30.0


class UnixConnection(http.client.HTTPConnection):
    """A connection to the server behind the socket `path`; it takes one request after the other."""

    def __init__(self, path: Path, *, seconds: float = ANSWER_SECONDS) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        with short_address(self._path) as address:
            self.sock.connect(address)

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
        """Send one request; return the status and the answer."""
        with contextlib.suppress(BrokenPipeError):  # who declines a request stops reading it; the answer is there
            self.request(method, target, body)
        with self.getresponse() as response:
            return response.status, response.read().decode()
