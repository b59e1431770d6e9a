"""What do logind and UPower say? Over the system bus: who sits at a graphical session, and that power changed.

Every signal of the two is a reason to look. Of logind the sessions are kept: a desktop tells it when its user went away
(`IdleHint`), which works under Wayland, where nobody else can see the keys. A desktop that never told it anything
(`IdleSinceHint` is 0) is not believed; sessions on terminals are not asked for, since the terminals tell more.
"""

import errno
import socket
import time
from itertools import count
from typing import Any

from mmd.conditions.events.source import Unavailable
from mmd.conditions.reading import system_clock
from mmd.conditions.user_idle import Session

CALL_SECONDS = 1.0
"""A bus that does not answer within this time is dead."""
_LOGIND, _LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
_UPOWER, _UPOWER_PATH = "org.freedesktop.UPower", "/org/freedesktop/UPower"
_WATCHED_PATHS = (_LOGIND_PATH, _UPOWER_PATH)
_GRAPHICAL = ("x11", "wayland", "mir")
_MOST_QUESTIONS = 3
_RECEIVED_BYTES = 65536


class SystemBus:
    """A connection to the system bus that listens to logind and UPower."""

    name = "system bus"

    def __init__(self) -> None:
        """Connect and subscribe. Raises `Unavailable` without a bus that answers."""
        # Not above: nobody but a daemon that listens pays for it.
        try:
            from jeepney import DBusErrorResponse, Parser, message_bus
            from jeepney.bus import get_bus
            from jeepney.io.blocking import prep_socket
        except ImportError as error:
            raise Unavailable("jeepney is not installed") from error

        self.sessions: tuple[Session, ...] = ()
        self._parser = Parser()
        self._serials = count(1)
        self._is_stale = False
        """Whether a signal came since the sessions were asked for."""
        try:
            address = get_bus("SYSTEM")
            self._socket: socket.socket = prep_socket(address, timeout=CALL_SECONDS)
        except (OSError, RuntimeError, ValueError) as error:
            raise Unavailable(f"it cannot be reached ({getattr(error, 'strerror', None) or error})") from error
        self._socket.settimeout(CALL_SECONDS)
        try:
            self._call(message_bus.Hello())
            for sender, path in ((_LOGIND, _LOGIND_PATH), (_UPOWER, _UPOWER_PATH)):
                rule = f"type='signal',sender='{sender}',path_namespace='{path}'"
                self._call(message_bus.AddMatch(rule))
            self._ask_for_sessions()
        except (OSError, DBusErrorResponse) as error:
            self.close()
            raise Unavailable(f"it does not answer ({error})") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> bool:
        self._receive()
        while (message := self._next_message()) is not None:
            self._note(message)
        is_due = self._is_stale
        for _ in range(_MOST_QUESTIONS):
            # A session may change between question and answer: then it is asked again.
            if self._is_stale:
                self._ask_for_sessions()
        return is_due

    def close(self) -> None:
        self._socket.close()

    def _ask_for_sessions(self) -> None:
        """Ask logind anew, which is cheap and rare. Without logind there are no sessions."""
        self._is_stale = False
        listed = self._ask(_LOGIND_PATH, f"{_LOGIND}.Manager", "ListSessions")
        asked = [self._session(str(path)) for *_, path in listed[0]] if listed else []
        self.sessions = tuple(session for session in asked if session is not None)

    def _session(self, path: str) -> Session | None:
        """Return a session whose user a desktop tells of."""
        answer = self._ask(path, "org.freedesktop.DBus.Properties", "GetAll", f"{_LOGIND}.Session")
        said: dict[str, Any] = {key: value for key, (_, value) in answer[0].items()} if answer else {}
        since = said.get("IdleSinceHintMonotonic", 0)
        if said.get("Class") != "user" or said.get("Type") not in _GRAPHICAL or said.get("State") == "closing":
            return None
        if not isinstance(since, int) or since <= 0:
            return None
        name = f"the {said['Type']} session of {said.get('Name', 'somebody')}"
        # logind's clock stands still while the machine sleeps.
        idle_since = since / 1e6 + system_clock().asleep
        return Session(name, idle_since if said.get("IdleHint") is True else None)

    def _ask(self, path: str, interface: str, member: str, *arguments: str) -> tuple[Any, ...] | None:
        """Call a method of logind; `None` when it refuses, or does not run. It is not started for this."""
        from jeepney import DBusAddress, DBusErrorResponse, MessageFlag, new_method_call

        address = DBusAddress(path, bus_name=_LOGIND, interface=interface)
        message = new_method_call(address, member, "s" * len(arguments) or None, arguments)
        message.header.flags = MessageFlag.no_auto_start
        try:
            return self._call(message)
        except DBusErrorResponse:
            return None

    def _call(self, message: Any) -> tuple[Any, ...]:
        from jeepney import HeaderFields
        from jeepney.wrappers import unwrap_msg

        serial, patience = next(self._serials), time.monotonic() + CALL_SECONDS
        self._socket.sendall(message.serialise(serial=serial))
        while time.monotonic() < patience:
            answer = self._next_message()
            if answer is None:
                self._receive()
            elif answer.header.fields.get(HeaderFields.reply_serial) == serial:
                body: tuple[Any, ...] = unwrap_msg(answer)
                return body
            else:
                self._note(answer)
        raise TimeoutError("no answer in time")

    def _note(self, message: Any) -> None:
        """Notice a signal of the two. The bus itself sends signals too: of names, not of these paths."""
        if any(str(field).startswith(_WATCHED_PATHS) for field in message.header.fields.values()):
            self._is_stale = True

    def _next_message(self) -> Any:
        try:
            return self._parser.get_next_message()
        except ValueError as error:
            raise OSError(None, f"it does not speak D-Bus ({error})") from error

    def _receive(self) -> None:
        """Wait for more of a message. Raises `OSError` at the end of the connection, or of patience."""
        data = self._socket.recv(_RECEIVED_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
        self._parser.add_data(data)
