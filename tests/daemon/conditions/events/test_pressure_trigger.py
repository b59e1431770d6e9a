"""Does the kernel tell when a resource gets short, and is a machine where it does not named?"""

import os
import selectors
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions.events import Unavailable
from mmd.conditions.events.pressure_trigger import PressureTrigger

WINDOW_SECONDS = 2.0


def test_processes_that_wait_for_one_processor_fire_the_trigger() -> None:
    try:
        trigger = PressureTrigger(Path("/"), "cpu", 5.0)
    except Unavailable as reason:
        pytest.skip(f"no pressure trigger can be armed here: {reason}")
    one = min(os.sched_getaffinity(0))
    busy = f"import os\nos.sched_setaffinity(0, [{one}])\nwhile True: pass"
    children = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(trigger.fileno(), selectors.EVENT_READ)
            assert selector.select(10 * WINDOW_SECONDS), "nothing was told in ten windows"
        assert trigger.take() is True
        assert 5.0 < trigger.percent < 5.001
    finally:
        for child in children:
            child.kill()
            child.wait()
        trigger.close()


def test_a_trigger_that_did_not_fire_wakes_nobody() -> None:
    try:
        trigger = PressureTrigger(Path("/"), "memory", 99.0)
    except Unavailable as reason:
        pytest.skip(f"no pressure trigger can be armed here: {reason}")
    with selectors.DefaultSelector() as selector:
        selector.register(trigger.fileno(), selectors.EVENT_READ)
        assert selector.select(0) == []
    trigger.close()


def test_a_kernel_without_pressure_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="tells no pressure"):
        PressureTrigger(Board(tmp_path, is_bare=True).root, "cpu", 50.0)


def test_a_file_that_takes_no_trigger_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"the kernel refuses a trigger on .*/proc/pressure/cpu"):
        PressureTrigger(Board(tmp_path, is_bare=True).pressure("cpu", "0.00").root, "cpu", 50.0)


def test_a_file_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    board = Board(tmp_path, is_bare=True)
    (board.root / "proc/pressure/cpu").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"cannot open .*/proc/pressure/cpu for writing"):
        PressureTrigger(board.root, "cpu", 50.0)


def test_a_level_that_is_never_passed_needs_no_trigger() -> None:
    with pytest.raises(Unavailable, match="100 %"):
        PressureTrigger(Path("/"), "cpu", 100.0)
