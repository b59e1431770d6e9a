"""How is the one trainer child started, listened to, stopped in place, asked to leave and killed?

Each of these is safe at any instant: a trainer loses at most the steps since its last checkpoint.
"""

import json
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from mmd.supervisor.cage import caged

LONGEST_LINE_BYTES = 1024 * 1024
_READ_BYTES = 65536

log = logging.getLogger(__name__)


class TrainerProcess:
    """One running (or stopped) trainer."""

    def __init__(self, command: Sequence[str], *, memory_mib: float) -> None:
        self._process = subprocess.Popen(
            caged(command, memory_mib=memory_mib, parent=os.getpid()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._buffer = b""
        self._is_skipping = False
        self.is_suspended = False
        self.was_asked_to_leave = False
        self.has_ended_output = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """The end of the trainer's standard output, for a selector."""
        return self._stdout.fileno()

    def read_events(self) -> list[dict[str, Any]]:
        """Return the events that have arrived, never waiting. Sets `has_ended_output` at the end of the stream."""
        events = []
        while not self.has_ended_output:
            try:
                data = os.read(self._stdout.fileno(), _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self.has_ended_output = True
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            events += [event for line in lines if (event := self._parsed(line)) is not None]
            if len(self._buffer) > LONGEST_LINE_BYTES:
                self._buffer, self._is_skipping = b"", True
        return events

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        if self._is_skipping:  # the rest of a line that was too long
            self._is_skipping = False
            return None
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "event" not in event:
            log.warning("the trainer said: %s", line[:200].decode(errors="replace"))
            return None
        return event

    def suspend(self) -> None:
        """Stop it in place: it uses no processor from now on, and keeps its memory."""
        self._signal(signal.SIGSTOP)
        self.is_suspended = True

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_suspended = False

    def ask_to_leave(self) -> None:
        """Have it write a checkpoint and end; its round stays open."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process gets its SIGTERM only when it goes on
        self.was_asked_to_leave = True

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def exit_status(self) -> int | None:
        """Return how it ended (negative: by that signal), or `None` while it lives."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Wait for the end. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(seconds)

    def close(self) -> None:
        self._stdout.close()


def describe_exit(status: int) -> str:
    """Say in words how a process ended."""
    if status < 0:
        try:
            return f"it was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"it was killed by signal {-status}"
    return f"it ended with exit code {status}"
