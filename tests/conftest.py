"""What do many tests share that takes a while to make? Made once a worker."""

from pathlib import Path

import pytest
from tests.tiny import build_tiny_set


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real artifact set, built by `mmd_tools.fuse`; read only."""
    return build_tiny_set(tmp_path_factory.mktemp("tiny"))
