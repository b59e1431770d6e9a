"""How does the demonstration run the product? As a person would: by its commands, in processes of their own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmd.errors import DaemonNotRunning, MmdError
from mmd.layout import StateDir
from mmd.supervisor.control import ask

POLL_SECONDS = 0.02
_START_LIMIT_SECONDS = 30.0
_STOP_LIMIT_SECONDS = 20.0

Status = dict[str, Any]


@dataclass(frozen=True)
class Commands:
    """The commands of `mmd` on one state folder."""

    state_dir: Path
    config: Path

    def line(self, *arguments: str) -> list[str]:
        options = ["--state-dir", str(self.state_dir), "--config", str(self.config)]
        return [sys.executable, "-m", "mmd", *options, *arguments]

    def run(self, *arguments: str) -> str:
        """Run `mmd ARGUMENTS` and return what it printed. Raises `MmdError` with its words when it fails."""
        done = subprocess.run(self.line(*arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MmdError(f"`mmd {' '.join(arguments)}` ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip()

    def status(self) -> Status:
        """Return what the daemon says of itself: `mmd status --json` without the cost of a process."""
        answer: Status = ask(StateDir(self.state_dir).control_socket, {"request": "status"})["status"]
        return answer

    def is_running(self) -> bool:
        try:
            self.status()
        except DaemonNotRunning:
            return False
        return True

    @contextmanager
    def daemon(self, log: Path) -> Iterator[None]:
        """Run `mmd run` while the block runs, its log in `log`; then end it as systemd would."""
        with log.open("wb") as output:
            process = subprocess.Popen(self.line("run"), stdout=output, stderr=output)
        try:
            wait_for(lambda: process.poll() is not None or self.is_running(), "the daemon", _START_LIMIT_SECONDS)
            if process.poll() is not None:
                raise MmdError(f"The daemon did not start: {log.read_text().strip()}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(is_done: Callable[[], Any], what: str, seconds: float) -> None:
    """Ask `is_done` until it says yes. Raises `MmdError` naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise MmdError(f"Waited {seconds:g} s for {what} in vain.")
        time.sleep(POLL_SECONDS)
