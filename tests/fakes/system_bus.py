"""A system bus of one's own with a logind that tests tell what to say."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, message_bus
from jeepney.io.blocking import prep_socket
from jeepney.low_level import MessageFlag
from jeepney.wrappers import new_error, new_method_return, new_signal

LOGIND = "org.freedesktop.login1"
DAEMON = shutil.which("dbus-daemon")
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><policy context="default">
<allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
</policy></busconfig>
"""


class FakeLogind:
    """Answers ListSessions and GetAll, in a thread; `say` changes what it says and tells so by a signal."""

    def __init__(self, address: Path, name: str = LOGIND) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self._socket: socket.socket = prep_socket(str(address))
        self._serials = count(1)
        self._parser = Parser()
        self._is_mute = False
        self._send(message_bus.Hello())
        self._send(message_bus.RequestName(name))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, session: str, **properties: Any) -> None:
        """Change the properties of a session; without any it ends."""
        path = f"/org/freedesktop/login1/session/{session}"
        if properties:
            self.sessions[path] = {"Class": "user", "Type": "wayland", "State": "active", "Name": "ada", **properties}
        else:
            del self.sessions[path]
        self.tell(path)

    def tell(self, path: str) -> None:
        """Send the signal that a property of this object changed."""
        body = ("org.example", {}, ["Any"])
        self.emit(path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body)

    def emit(self, path: str, interface: str, member: str, signature: str, body: tuple[Any, ...]) -> None:
        """Send a signal."""
        self._send(new_signal(DBusAddress(path, interface=interface), member, signature, body))

    def be_mute(self) -> None:
        """Answer nothing any more."""
        self._is_mute = True

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _send(self, message: Message) -> None:
        self._socket.sendall(message.serialise(serial=next(self._serials)))

    def _serve(self) -> None:
        while data := self._socket.recv(65536):
            self._parser.add_data(data)
            while (message := self._parser.get_next_message()) is not None:
                if message.header.message_type is MessageType.method_call and not self._is_mute:
                    assert message.header.flags & MessageFlag.no_auto_start, "logind is not to be started by a question"
                    self._send(self._answer(message))

    def _answer(self, message: Message) -> Message:
        path = message.header.fields[HeaderFields.path]
        member = message.header.fields[HeaderFields.member]
        if member == "ListSessions":
            listed = [("1", 1000, "ada", "seat0", path) for path in self.sessions]
            return new_method_return(message, "a(susso)", (listed,))
        if member == "GetAll" and path in self.sessions:
            kinds = {bool: "b", int: "t", str: "s"}
            said = {key: (kinds[type(value)], value) for key, value in self.sessions[path].items()}
            return new_method_return(message, "a{sv}", (said,))
        return new_error(message, "org.freedesktop.DBus.Error.UnknownObject")


@contextmanager
def private_bus(folder: Path) -> Iterator[Path]:
    """Run a bus; yield the path of its socket, for `DBUS_SYSTEM_BUS_ADDRESS`."""
    assert DAEMON is not None
    address = folder / "bus"
    (folder / "bus.conf").write_text(CONFIGURATION.format(socket=address))
    command = [DAEMON, f"--config-file={folder / 'bus.conf'}", "--nofork", "--print-address=1", "--nopidfile"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the bus did not come up"
            yield address
        finally:
            process.kill()
