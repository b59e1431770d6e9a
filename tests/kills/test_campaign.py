"""Does a short campaign of kills keep every promise, and would it notice one that is broken?"""

import shutil
import time
from pathlib import Path

import pytest
from tests.kills.campaign import Campaign

from mmd import durable
from mmd.errors import StoreDamaged


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    tally = Campaign(tmp_path, seed=1).go(8)
    assert tally.kills.total() >= 8
    assert tally.completed["trained"] == tally.completed["promoted"] == tally.completed["forgot"] >= 1


def test_a_model_that_is_installed_file_by_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, seed=1)

    def file_by_file(prepared: Path, destination: Path) -> None:
        destination.mkdir()
        for path in sorted(prepared.iterdir()):
            time.sleep(0.05)
            shutil.copy(path, destination)

    monkeypatch.setattr(durable, "install_folder", file_by_file)
    with pytest.raises((AssertionError, StoreDamaged)):
        campaign.go(500)
