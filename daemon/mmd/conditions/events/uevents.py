"""Which device changed just now? The kernel's uevents, over a netlink socket.

A charger that is pulled, a battery that changes its status and a thermal zone that passes a trip point are told within
milliseconds. It takes no privilege, only a sandbox that allows AF_NETLINK. A message is the action and the path of the
device, then `KEY=value` lines, all ended by zeros (`lib/kobject_uevent.c`).
"""

import errno
import socket
from collections.abc import Collection

from mmd.conditions.events.source import Unavailable

_FAMILY, _PROTOCOL = 16, 15  # AF_NETLINK and NETLINK_KOBJECT_UEVENT: Python has the latter's name nowhere
_KERNEL_GROUP = 1
_MOST_BYTES = 8192
_SUBSYSTEM = b"SUBSYSTEM="
SUBSYSTEMS = frozenset({"power_supply", "thermal"})


class Uevents:
    """The uevents of some subsystems."""

    name = "uevents"

    def __init__(self, subsystems: Collection[str] = SUBSYSTEMS) -> None:
        """Begin to listen. Raises `Unavailable` where the sandbox or the system does not let this process."""
        self._subsystems = subsystems
        try:
            self._socket = socket.socket(
                _FAMILY, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _PROTOCOL
            )
        except OSError as error:
            raise Unavailable(f"no netlink socket ({error.strerror}); a unit needs AF_NETLINK for it") from error
        try:
            self._socket.bind((0, _KERNEL_GROUP))
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"cannot listen to the kernel ({error.strerror})") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> bool:
        is_due = False
        while True:
            try:
                message, (sender, _) = self._socket.recvfrom(_MOST_BYTES)
            except BlockingIOError:
                return is_due
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return True  # more came than there was room for: something changed
            # Any program may send to the group; the kernel's number is 0.
            is_due = is_due or (sender == 0 and subsystem_of(message) in self._subsystems)

    def close(self) -> None:
        self._socket.close()


def subsystem_of(message: bytes) -> str | None:
    """Return the subsystem that a uevent tells of."""
    for line in message.split(b"\0"):
        if line.startswith(_SUBSYSTEM):
            return line.removeprefix(_SUBSYSTEM).decode("ascii", "replace")
    return None
