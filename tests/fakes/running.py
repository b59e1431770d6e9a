"""A state folder, a board and a daemon that runs on them: what the tests of the supervisor share."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.fakes.board import Board
from tests.support import call_mmd, eventually, write_class_folders, write_fake_set

from mmd.errors import DaemonNotRunning
from mmd.layout import StateDir
from mmd.supervisor.control import ask

CONFIGURATION = """\
[daemon]
sys_root = "{board}"
poll_seconds = {poll_seconds}
cooldown_seconds = 3600
suspend_grace_seconds = {grace_seconds}
watch_inbox = {watch_inbox}

[conditions.external_power]
dwell_seconds = 0
[conditions.battery_charge]
dwell_seconds = 0
[conditions.memory_available]
dwell_seconds = 0
[conditions.disk_free]
start_mib = 1
stop_mib = 1
"""


@dataclass
class Rig:
    """Everything about one daemon under test."""

    folder: Path
    board: Board
    state: StateDir
    config: Path
    process: "subprocess.Popen[bytes] | None" = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text() if path.exists() else ""

    def configure(
        self, *, poll_seconds: float = 0.5, grace_seconds: float = 120.0, watch_inbox: bool = False, more: str = ""
    ) -> None:
        text = CONFIGURATION.format(
            board=self.board.root,
            poll_seconds=poll_seconds,
            grace_seconds=grace_seconds,
            watch_inbox=str(watch_inbox).lower(),
        )
        self.config.write_text(text + more)

    def script(self, words: str) -> None:
        """Tell the fake trainer what to do."""
        (self.state.root / "script").write_text(words)

    def set_clock(self, seconds: float) -> float:
        """Have the daemon with the fake trainer see a wall clock that is wrong by so much; return what it shows."""
        fresh = self.state.root / "clock.new"
        fresh.write_text(str(seconds))
        fresh.replace(self.state.root / "clock")
        return time.time() + seconds

    def start(self, *command: str) -> None:
        """Start the daemon (with the fake trainer unless another command is given) and wait until it answers."""
        given = command or (sys.executable, str(Path(__file__).with_name("daemon.py")), str(self.state.root))
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*given, str(self.config)] if not command else list(given),
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        eventually(self.answers, within=120)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return bool(self.status())
        except DaemonNotRunning:
            return False

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.state.control_socket, {"request": "status"})["status"]
        return status

    def is_in(self, *states: str) -> bool:
        state: str = self.status()["state"]
        return state in states

    def codes(self) -> list[str]:
        return [reason["code"] for reason in self.status()["reasons"]]

    @property
    def trainer_pid(self) -> int:
        """Of the last trainer that was started."""
        return int((self.state.root / "trainer.pid").read_text())

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, *, within: float = 60.0) -> int:
        """Stop the daemon as systemd does; return its exit code."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return self.process.wait(within)


def wait_for_trainer(rig: Rig, *, step: int = 3) -> psutil.Process:
    """Wait until the trainer takes steps, and return it."""
    eventually(lambda: (rig.status()["round"] or {}).get("step", 0) >= step, within=120)
    return psutil.Process(rig.trainer_pid)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def rig(
    folder: Path, *, samples: Mapping[str, int] | None = None, is_initialised: bool = True, **configuration: Any
) -> Iterator[Rig]:
    """Yield a rig with samples to train on; whatever still runs is killed at the end."""
    made = Rig(folder, Board(folder / "board"), StateDir(folder / "state"), folder / "mmd.toml")
    made.configure(**configuration)
    if is_initialised:
        ran = call_mmd("init", "--set", write_fake_set(folder / "fake-set"), state=made.state.root)
        assert ran.code == 0, ran.err
        pictures = write_class_folders(folder / "pictures", samples or {"cat": 25, "dog": 25})
        ran = call_mmd("ingest", pictures, state=made.state.root)
        assert ran.code == 0, ran.err
    else:
        made.state.root.mkdir()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()
