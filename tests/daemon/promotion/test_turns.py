"""Can two who change which model serves get into each other's way?"""

import shutil
import threading
from pathlib import Path

import pytest
from tests.models import put_candidate
from tests.support import write_fake_set

from mmd import durable
from mmd.artifact.card import ModelCard, linked_generation
from mmd.artifact.load import open_set
from mmd.errors import ModelsBusy
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.promotion.turns import turn

WHILE_IT_PROMOTES_SECONDS = 0.3


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.root.mkdir()
    shutil.copytree(write_fake_set(tmp_path / "set"), state.artifact_set)
    ModelStore(state).create_shipped(open_set(state.artifact_set))
    return state


def test_a_rollback_in_the_middle_of_a_promotion_comes_after_it(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_candidate(state, 1)
    ModelStore(state).finish_round(1)
    put_candidate(state, 2)
    changed: list[tuple[ModelCard, ModelCard]] = []
    owner = threading.Thread(target=lambda: changed.append(ModelStore(state).rollback()))
    install = durable.install_folder

    def install_and_roll_back(prepared: Path, destination: Path) -> None:
        install(prepared, destination)
        owner.start()
        owner.join(WHILE_IT_PROMOTES_SECONDS)
        assert not changed, "it waits for its turn"

    monkeypatch.setattr(durable, "install_folder", install_and_roll_back)
    assert ModelStore(state).finish_round(2).generation == 2
    owner.join(30)
    ((left, serving),) = changed
    assert (left.generation, serving.generation) == (2, 1)
    assert linked_generation(state.models) == 1


def test_whoever_waits_too_long_is_told_and_has_changed_nothing(state: StateDir) -> None:
    with (
        turn(state),
        pytest.raises(ModelsBusy, match=r"Another command is changing the models in .*; try again"),
        turn(state, patience_seconds=0),
    ):
        raise AssertionError("two at once")


def test_the_next_one_gets_its_turn_when_one_before_failed(state: StateDir) -> None:
    with pytest.raises(ValueError, match="no room"), turn(state):
        raise ValueError("no room")
    with turn(state, patience_seconds=0):
        pass
