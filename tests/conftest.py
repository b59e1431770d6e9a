"""What do many tests share that takes a while to make? Made once a worker."""

import os
import signal
from pathlib import Path

import pytest
from tests.tiny import GOLDEN, build_tiny_set

from mmd_tools.fuse.gradients import training_build_is_installed

_NORMAL_PRIORITY = str(Path(__file__).with_name("fakes") / "normal_priority")


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands under test, and let their trainers have a share of busy cores.

    A shell's background jobs ignore Ctrl-C, and children inherit that. An idle-scheduled trainer may wait for minutes.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PYTHONPATH"] = os.pathsep.join([_NORMAL_PRIORITY, *_python_path()])


@pytest.fixture
def idle_scheduling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trainers scheduled as the product has them: only when nobody else wants the processor."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(_python_path()))


def _python_path() -> list[str]:
    """Return the folders that the caller of the tests has put there."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [folder for folder in folders if folder not in ("", _NORMAL_PRIORITY)]


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real artifact set, read only: built now, or the golden one where onnxruntime-training cannot be installed."""
    if not training_build_is_installed():
        return GOLDEN
    return build_tiny_set(tmp_path_factory.mktemp("tiny"))
