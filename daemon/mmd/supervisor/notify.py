"""How does systemd learn that the daemon is ready, alive and what it does? The `sd_notify(3)` protocol.

Without `NOTIFY_SOCKET` in the environment everything here does nothing.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Sends state to the service manager that started this process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):  # an abstract socket: its name begins with a zero byte
            address = "\0" + address[1:]
        self._address = address
        self.watchdog_seconds = _watchdog_seconds(environment)
        """The service manager kills a daemon that is silent for longer; `None` when it does not watch."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("cannot notify the service manager: %s", error.strerror)
            self._address = ""


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    watched_pid = environment.get("WATCHDOG_PID", str(os.getpid()))
    microseconds = environment.get("WATCHDOG_USEC", "")
    if watched_pid != str(os.getpid()) or not microseconds.isdigit() or not int(microseconds):
        return None
    return int(microseconds) / 1e6
