"""How is a Unix socket bound so that only its group may use it, and asked whether anybody listens?"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PROBE_SECONDS = 1.0
_OTHERS = 0o117
"""The mask that leaves 0660."""


def bind_unix(path: Path) -> socket.socket:
    """Return a socket bound at `path` with mode 0660 from its first instant on. What lies there has been removed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    previous_mask = os.umask(_OTHERS)
    try:
        with short_address(path) as address:
            listener.bind(address)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(previous_mask)
    return listener


def is_answered(path: Path) -> bool:
    """Return whether a process listens at the socket `path`; one that is busy, or that we may not ask, counts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe, short_address(path) as name:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address of the socket that fits into the 108 bytes of `sun_path`, however deep its folder lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
