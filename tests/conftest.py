"""What do many tests share that takes a while to make? Made once a worker."""

import signal
from pathlib import Path

import pytest
from tests.tiny import GOLDEN, build_tiny_set

from mmd_tools.fuse.gradients import training_build_is_installed


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands under test: a shell's background jobs ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real artifact set, read only: built now, or the golden one where onnxruntime-training cannot be installed."""
    if not training_build_is_installed():
        return GOLDEN
    return build_tiny_set(tmp_path_factory.mktemp("tiny"))
