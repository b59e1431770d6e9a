"""Is `mmd status --watch` a live view on a terminal of any size, and plain lines in a pipe?"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.running import Rig, rig, wait_for_trainer
from tests.support import call_mmd, eventually

from mmd.cli.status_lines import status_lines
from mmd.cli.watch import LossCurve, change_line, curve_lines, live_lines

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*(?:[A-Za-z]|$)|\x1b$")
"""One that was read by half is at the end, as a character may be."""
_HOME = b"\x1b[H"
"""Where each drawing begins."""


class Screen:
    """`mmd status --watch` on a terminal of its own."""

    def __init__(self, board: Rig, *, columns: int, rows: int) -> None:
        self.controller, terminal = pty.openpty()
        self.resize(columns=columns, rows=rows)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mmd", "status", "--watch"],
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            env={
                **environment,
                "TERM": "xterm",
                "MMD_STATE_DIR": str(board.state.root),
                "MMD_CONFIG": str(board.config),
            },
        )
        os.close(terminal)
        self._drawn = b""

    def read(self, *, until: Callable[[str], bool], within: float = 60.0) -> str:
        """Read what is drawn until it satisfies; return the plain text since then."""
        deadline = time.monotonic() + within
        while not until(shown := _ESCAPE.sub("", self._drawn.decode(errors="ignore"))):
            assert time.monotonic() < deadline, shown[-4000:]
            if select.select([self.controller], [], [], 0.2)[0]:
                self._drawn += os.read(self.controller, 65536)
        self._drawn = b""
        return shown

    def resize(self, *, columns: int, rows: int) -> None:
        """Give the terminal another size, as whoever drags its corner does."""
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_frame(self, *, columns: int, rows: int) -> list[str]:
        """Read until what is drawn from the upper left corner on is of this size; return its lines."""
        found: list[str] = []

        def is_filled(_: str) -> bool:
            for drawn in self._drawn.split(_HOME)[1:-1]:
                lines = _ESCAPE.sub("", drawn.decode()).splitlines()
                if len(lines) == rows and {len(line) for line in lines} == {columns}:
                    found[:] = lines
            return bool(found)

        self.read(until=is_filled)
        return found

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        while self.process.poll() is None:
            if select.select([self.controller], [], [], 0.1)[0]:
                try:
                    os.read(self.controller, 65536)
                except OSError:
                    break
        return self.process.wait(60)


@contextmanager
def screen(board: Rig, *, columns: int, rows: int) -> Iterator[Screen]:
    made = Screen(board, columns=columns, rows=rows)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        os.close(made.controller)


def write_losses(board: Rig, values: list[float]) -> None:
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(values, 1)]
    (board.state.rounds / "0001" / "losses.jsonl").write_text("\n".join(lines) + "\n")


def test_on_a_terminal_it_shows_state_conditions_and_losses_and_follows_them(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        wait_for_trainer(board)
        write_losses(board, [2.5 / step for step in range(1, 60)])
        with screen(board, columns=80, rows=40) as seen:
            text = seen.read(until=lambda shown: "model generation" in shown)
            assert "training" in text
            assert "round 1: step" in text
            assert "loss by step" in text
            assert re.search(r"battery_charge +90 % +█+░", text)
            assert re.search("[\u2801-\u28ff]", text), "the curve is drawn"
            assert [line for line in text.splitlines() if len(line) > 80] == []
            board.board.unplug()
            seen.read(until=lambda shown: "suspended" in shown and "on_battery" in shown)
            assert seen.interrupt() == 0


def test_a_narrow_terminal_gets_what_fits(tmp_path: Path) -> None:
    with rig(tmp_path) as board, screen(board, columns=40, rows=20) as seen:
        text = seen.read(until=lambda shown: "battery_charge" in shown)
        assert "waiting" in text
        assert "no_daemon" in text
        assert max(len(line) for line in text.splitlines()) <= 40
        assert seen.interrupt() == 0


def test_a_terminal_that_is_resized_is_filled_again_and_no_more(tmp_path: Path) -> None:
    with rig(tmp_path) as board, screen(board, columns=100, rows=30) as seen:
        assert any("starts at" in line for line in seen.read_frame(columns=100, rows=30))
        seen.resize(columns=40, rows=12)
        narrow = seen.read_frame(columns=40, rows=12)
        assert narrow[0].startswith("waiting")
        assert not any("starts at" in line for line in narrow)
        seen.resize(columns=150, rows=50)
        wide = seen.read_frame(columns=150, rows=50)
        assert any("starts at" in line for line in wide)
        assert any(line.startswith("model generation 0") for line in wide)
        assert seen.interrupt() == 0


def test_in_a_pipe_each_change_is_a_line(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.start()
        command = [sys.executable, "-m", "mmd", "status", "--watch"]
        environment = {**os.environ, "MMD_STATE_DIR": str(board.state.root), "MMD_CONFIG": str(board.config)}
        out = tmp_path / "out"
        with out.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, env=environment)
        try:
            eventually(lambda: b"\n" in out.read_bytes())
            board.board.unplug()
            eventually(lambda: b"on_battery" in out.read_bytes())
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert b"\x1b" not in out.read_bytes()


def status_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    with rig(tmp_path) as board:
        found: dict[str, Any] = json.loads(
            call_mmd("status", "--json", state=board.state.root, config=board.config).out
        )
    return found | changes


@pytest.fixture(scope="module")
def status(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    progress = {"number": 1, "step": 40, "steps": 100, "loss": 0.123, "minutes": 1.5, "watt_hours": None}
    return status_of(tmp_path_factory.mktemp("status"), state="training", round=progress)


@pytest.mark.parametrize(("width", "height"), [(24, 10), (40, 24), (60, 24), (80, 24), (80, 60), (200, 50)])
def test_every_screen_fits_its_terminal(status: dict[str, Any], width: int, height: int) -> None:
    lines = live_lines(status, [1.0, 0.5, 0.2], width=width, height=height)
    assert len(lines) <= height
    assert max(len(_ESCAPE.sub("", line)) for line in lines) <= width


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_the_status_fits_into_a_terminal_of_any_width(status: dict[str, Any], width: int) -> None:
    assert max(len(_ESCAPE.sub("", line)) for line in status_lines(status, width=width)) <= width


def test_in_a_pipe_nothing_of_the_status_is_cut(status: dict[str, Any]) -> None:
    assert "…" not in "".join(status_lines(status, width=None))


def test_a_change_is_told_with_reasons_round_and_generation(status: dict[str, Any]) -> None:
    assert change_line(status) == "training no_daemon round 1: step 40 of 100, loss 0.1230 generation 0"


def test_the_curve_reads_only_what_is_new_and_begins_again_after_a_step_back(tmp_path: Path) -> None:
    curve, losses = LossCurve(tmp_path), tmp_path / "0001" / "losses.jsonl"
    losses.parent.mkdir()
    losses.write_text('{"loss": 3.0}\n{"loss": 2.0}\n{"lo')
    assert curve.follow(1) == [3.0, 2.0]
    losses.write_text('{"loss": 3.0}\n{"loss": 2.0}\n{"loss": 1.5}\nrubbish\n')
    assert curve.follow(1) == [3.0, 2.0, 1.5]
    losses.write_text('{"loss": 4.0}\n')
    assert curve.follow(1) == [4.0]
    assert curve.follow(2) == []
    assert curve.follow(None) == []


def test_one_loss_is_no_curve() -> None:
    assert curve_lines([1.0], width=80) == []
