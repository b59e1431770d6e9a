"""Is a checkpoint whole, or refused?"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmd.errors import StoreDamaged
from mmd.training.checkpoint import Checkpoint, CheckpointFolder, load_checkpoint, read_checkpoint, save_checkpoint
from mmd.training.engine import TrainingState


def state(step: int = 3, fill: float = 1.0) -> TrainingState:
    values = {"a.weight": np.full((2, 3), fill, np.float32), "scalar": np.array(fill, np.float32)}
    return TrainingState(step, values, {name: -value for name, value in values.items()}, values)


def assert_same(one: TrainingState, other: TrainingState) -> None:
    assert one.step == other.step
    for group in ("parameters", "first_moments", "second_moments"):
        mine, theirs = getattr(one, group), getattr(other, group)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].tobytes() == theirs[name].tobytes()
            assert mine[name].shape == theirs[name].shape


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one.safetensors", state(), notes={"recoveries": "2"})
    assert_same(load_checkpoint(tmp_path / "one.safetensors"), state())
    assert read_checkpoint(tmp_path / "one.safetensors").notes == {"recoveries": "2"}


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "one.safetensors"
    save_checkpoint(path, state())
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = read_checkpoint(path)
    except StoreDamaged:
        return
    # A few bytes of the header are blanks between its entries: they may change, what is loaded may not.
    assert_same(loaded.state, state())


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "step-00000003.safetensors"
    save_checkpoint(path, state())
    for size in (0, 5, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(StoreDamaged, match="step-00000003"):
            load_checkpoint(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="nothing"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", every=5)


def files(tmp_path: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (tmp_path / "checkpoints").iterdir())


def test_the_last_two_regular_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        folder(tmp_path).save(Checkpoint(state(step)))
    assert files(tmp_path) == [15, 20]


def test_a_checkpoint_of_leaving_does_not_push_a_regular_one_out(tmp_path: Path) -> None:
    for step in (5, 10, 12):
        folder(tmp_path).save(Checkpoint(state(step)))
    assert files(tmp_path) == [5, 10, 12]
    folder(tmp_path).save(Checkpoint(state(15)))
    assert files(tmp_path) == [10, 15]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    for step in (5, 10):
        folder(tmp_path).save(Checkpoint(state(step, fill=step)))
    (tmp_path / "checkpoints" / "step-00000010.safetensors").write_bytes(b"broken")
    checkpoint, complaints = folder(tmp_path).newest()
    assert checkpoint is not None
    assert_same(checkpoint.state, state(5, fill=5))
    assert "step-00000010" in complaints[0]
    assert complaints[-1] == "Resuming from step 5."
    assert files(tmp_path) == [5]


def test_with_no_checkpoint_left_the_round_begins_again_and_says_so(tmp_path: Path) -> None:
    folder(tmp_path).save(Checkpoint(state(5)))
    (tmp_path / "checkpoints" / "step-00000005.safetensors").write_bytes(b"broken")
    checkpoint, complaints = folder(tmp_path).newest()
    assert checkpoint is None
    assert complaints[-1] == "Beginning the round again."


def test_without_checkpoints_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert folder(tmp_path).newest() == (None, [])


def test_only_regular_ones_count_when_asked_for(tmp_path: Path) -> None:
    for step in (5, 7):
        folder(tmp_path).save(Checkpoint(state(step)))
    checkpoint, _ = folder(tmp_path).newest(regular_only=True)
    assert checkpoint is not None
    assert checkpoint.state.step == 5


def test_nothing_resumes_from_a_step_after_the_one_that_a_round_went_back_to(tmp_path: Path) -> None:
    for step in (5, 7):
        folder(tmp_path).save(Checkpoint(state(step)))
    folder(tmp_path).remove_after(5)
    assert files(tmp_path) == [5]
