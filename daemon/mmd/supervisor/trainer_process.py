"""How is the one trainer child started, listened to, stopped in place, asked to leave and killed?

Each of these is safe at any instant: a trainer loses at most the steps since its last checkpoint.
"""

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from mmd.supervisor.cage import caged
from mmd.supervisor.control_groups import TrainerGroup, machine_oom_kills

LONGEST_LINE_BYTES = 1024 * 1024
_READ_BYTES = 65536

log = logging.getLogger(__name__)


class TrainerProcess:
    """One running (or stopped) trainer."""

    def __init__(self, command: Sequence[str], *, memory_mib: float, group: TrainerGroup | None = None) -> None:
        """Start `command` in its cage, and in the control group `group` where there is one."""
        if group is not None:
            group.limit(memory_mib)
        self._group = group
        self._oom_kills = self._count_oom_kills()
        self._was_killed_here = False
        self._process = subprocess.Popen(
            caged(command, memory_mib=memory_mib, parent=os.getpid(), group=group.folder if group else None),
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
        self._was_killed_here = True
        self._signal(signal.SIGKILL)

    @property
    def was_killed_for_memory(self) -> bool:
        """Whether the kernel killed it because memory had run out: its control group's, or the machine's."""
        is_killed = self.exit_status() == -signal.SIGKILL and not self._was_killed_here
        return is_killed and self._count_oom_kills() > self._oom_kills

    def _count_oom_kills(self) -> int:
        return machine_oom_kills() + (self._group.oom_kills() if self._group is not None else 0)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def exit_status(self) -> int | None:
        """Return how it ended (negative: by that signal), or `None` while it lives."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Wait for the end. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(seconds)

    def end(self, *, within: float) -> None:
        """Have it write a checkpoint and leave, and wait for that; kill it when it does not."""
        self.ask_to_leave()
        deadline = time.monotonic() + within
        while self.exit_status() is None and time.monotonic() < deadline:
            self.read_events()  # a full pipe would keep it from leaving
            try:
                self.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        if self.exit_status() is None:
            log.warning("the trainer did not leave within %g s and is killed", within)
            self.kill()
            self.wait(within)

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
