"""Where may the server listen? A Unix socket, or this machine's own loopback; nothing that another machine reaches."""

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from mmd.errors import MmdError, UsageError
from mmd.sockets import bind_unix, is_answered

_FIRST_PASSED_DESCRIPTOR = 3
"""Of those that systemd opens for a service: `SD_LISTEN_FDS_START` of sd_listen_fds(3)."""


class Listener:
    """A listening socket, with the name that clients use; `close` removes what it left on disk."""

    def __init__(self, bound: socket.socket, path: Path | None = None) -> None:
        self.socket = bound
        self._path = path
        self._inode = path.stat().st_ino if path is not None else None

    @property
    def is_tcp(self) -> bool:
        return self.socket.family != socket.AF_UNIX

    @property
    def url(self) -> str:
        """The address as curl takes it; for a Unix socket with `--unix-socket`."""
        if self.is_tcp:
            host, port = self.socket.getsockname()[:2]
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return f"unix:{self._path or self.socket.getsockname()}"

    def close(self) -> None:
        self.socket.close()
        if self._path is None:
            return
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            return  # somebody removed it


def listen(address: str) -> Listener:
    """Listen at a socket's path (it has a slash, or begins with `unix:`), `PORT`, or `HOST:PORT` of the loopback.

    At once, though nobody answers yet: a second server that starts meanwhile sees that the place is taken.
    Raises `UsageError` for an address that others could reach, or one that is in use.
    """
    if "/" in address or address.startswith("unix:"):
        return _listen_unix(Path(address.removeprefix("unix:")).absolute())
    host, _, port = address.rpartition(":")
    return _listen_tcp(_loopback(host.strip("[]") or "127.0.0.1", address), _port(port, address))


def passed_listener(environment: Mapping[str, str]) -> Listener | None:
    """Return the socket that systemd opened for this process (sd_listen_fds(3)); `None` when it opened none."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or environment.get("LISTEN_FDS", "0") == "0":
        return None
    if environment["LISTEN_FDS"] != "1":
        raise UsageError("systemd passes several sockets; leave one ListenStream= in mmd-serve.socket.")
    passed = socket.socket(fileno=_FIRST_PASSED_DESCRIPTOR)
    if passed.family != socket.AF_UNIX:
        host, port = passed.getsockname()[:2]
        try:
            _loopback(host, f"{host}:{port}")
        except UsageError:
            passed.close()
            raise
    return Listener(passed)


def _loopback(host: str, address: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass  # a name: what it means is another machine's to say
    raise UsageError(
        f"The server answers this machine alone and does not listen at {address!r}; "
        "give a socket's path, or 127.0.0.1:PORT."
    )


def _port(text: str, address: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"{address!r} is no address; give a socket's path, or 127.0.0.1:PORT.")
    return int(text)


def _listen_tcp(host: str, port: int) -> Listener:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen()
    except OSError as error:
        bound.close()
        raise UsageError(f"Cannot listen at {host}:{port} ({error.strerror}); choose another port.") from error
    return Listener(bound)


def _listen_unix(path: Path) -> Listener:
    try:
        _clear(path)
        bound = bind_unix(path)
        bound.listen()
        return Listener(bound, path)
    except OSError as error:
        raise MmdError(
            f"Cannot listen at {path} ({error.strerror}); choose a folder that you may write to with --listen."
        ) from error


def _clear(path: Path) -> None:
    """Remove the socket of a server that died."""
    if path.is_socket():
        if is_answered(path):
            raise UsageError(f"A server listens at {path} already; stop that one first, or choose another --listen.")
        path.unlink()
    elif path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there and is no socket; choose another --listen.")
