"""Does `mmd init` make a state folder that is whole, or refuse with the reason?"""

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from tests.models import put_candidate
from tests.support import call_mmd, class_counts, write_class_folders, write_fake_set

from mmd import durable
from mmd.artifact.card import linked_generation
from mmd.artifact.load import open_set
from mmd.errors import MmdError
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.samples.row_cache import RowCache
from mmd.samples.store import SampleStore
from mmd.supervisor.lock import DaemonLock

WHILE_IT_REPLACES_SECONDS = 0.3


@pytest.fixture
def fake_set(tmp_path: Path) -> Path:
    return write_fake_set(tmp_path / "a-set")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "deep" / "state")


def init(state: StateDir, artifact_set: Path, *arguments: str) -> tuple[int, str, str]:
    ran = call_mmd("init", "--set", artifact_set, *arguments, state=state.root)
    return ran.code, ran.out, ran.err


def test_it_makes_everything_that_the_other_commands_need(state: StateDir, fake_set: Path) -> None:
    code, out, err = init(state, fake_set)
    assert (code, err) == (0, "")
    assert "Installed tiny" in out
    assert open_set(state.artifact_set).sha256 == open_set(fake_set).sha256
    assert state.inbox.is_dir()
    assert linked_generation(state.models) == 0
    with SampleStore(state.samples_db) as store:
        assert store.form.shape == (1, 8, 8)
        assert store.form.classes == ("cat", "dog")


def test_nobody_else_may_look_into_the_state_folder(state: StateDir, fake_set: Path) -> None:
    init(state, fake_set)
    assert not stat.S_IMODE(state.root.stat().st_mode) & stat.S_IRWXO


def test_only_what_the_manifest_lists_is_copied(state: StateDir, fake_set: Path) -> None:
    (fake_set / "stray").write_text("x")
    init(state, fake_set)
    assert not (state.artifact_set / "stray").exists()


def test_the_holdout_share_comes_from_the_configuration(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    config = tmp_path / "mmd.toml"
    config.write_text("[samples]\nholdout = 0.5\n")
    call_mmd("init", "--set", fake_set, state=state.root, config=config)
    with SampleStore(state.samples_db) as store:
        assert store.holdout_fraction == 0.5


def test_again_with_the_same_set_changes_nothing_and_says_so(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 3}), state=state.root)
    code, out, _ = init(state, fake_set)
    assert code == 0
    assert "already" in out
    with SampleStore(state.samples_db) as store:
        assert store.counts().total == 3


def test_again_on_a_damaged_store_is_exit_code_4(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 3}), state=state.root)
    whole = state.samples_db.read_bytes()
    state.samples_db.write_bytes(whole[:1024] + bytes(4096) + whole[5120:])
    code, _, error = init(state, fake_set)
    assert code == 4
    assert "samples.db" in error


def test_another_set_is_refused_without_force(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    code, _, err = init(state, write_fake_set(tmp_path / "b-set", flavour="b"))
    assert code == 2
    assert "--force" in err
    assert len(err.splitlines()) == 1
    assert open_set(state.artifact_set).sha256 == open_set(fake_set).sha256


def test_force_replaces_set_and_models_and_keeps_the_samples(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 3}), state=state.root)
    (state.rounds / "0001").mkdir(parents=True)
    RowCache(state.cache_db, "what the old Mentor said").close()
    other = write_fake_set(tmp_path / "b-set", flavour="b", classes=("ant", "cat", "dog"))
    assert init(state, other, "--force")[0] == 0
    assert open_set(state.artifact_set).sha256 == open_set(other).sha256
    assert linked_generation(state.models) == 0
    assert not state.rounds.exists()
    assert not state.cache_db.exists()
    with SampleStore(state.samples_db) as store:
        assert class_counts(store) == {"cat": 3}
        assert store.form.classes == ("ant", "cat", "dog")


def test_force_is_refused_when_the_samples_do_not_fit(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 3}), state=state.root)
    code, _, err = init(state, write_fake_set(tmp_path / "b-set", shape=(3, 8, 8)), "--force")
    assert code == 3
    assert "mmd forget --all" in err
    assert open_set(state.artifact_set).sha256 == open_set(fake_set).sha256


def test_force_is_refused_while_a_daemon_runs(state: StateDir, fake_set: Path, tmp_path: Path) -> None:
    init(state, fake_set)
    with DaemonLock(state.lock_file):
        code, _, err = init(state, write_fake_set(tmp_path / "b-set", flavour="b"), "--force")
    assert code == 2
    assert "in use" in err


def test_a_rollback_in_the_middle_of_a_replacement_comes_after_it(
    state: StateDir, fake_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(state, fake_set)
    put_candidate(state, 1)
    ModelStore(state).finish_round(1)
    refused: list[Exception] = []
    remove_folder = durable.remove_folder

    def roll_back() -> None:
        try:
            ModelStore(state).rollback()
        except (MmdError, OSError) as error:
            refused.append(error)

    owner = threading.Thread(target=roll_back)

    def remove_and_roll_back(folder: Path) -> None:
        remove_folder(folder)
        if folder == state.models:
            owner.start()
            owner.join(WHILE_IT_REPLACES_SECONDS)
            assert owner.is_alive(), "it waits for its turn"

    monkeypatch.setattr(durable, "remove_folder", remove_and_roll_back)
    assert init(state, write_fake_set(tmp_path / "b-set", flavour="b"), "--force")[0] == 0
    owner.join(30)
    assert [str(error) for error in refused] == ["Generation 0 serves and there is none before it to go back to."]
    assert linked_generation(state.models) == 0


def test_a_damaged_set_is_exit_code_5_with_the_name_of_the_file(state: StateDir, fake_set: Path) -> None:
    with (fake_set / "mentee.onnx").open("r+b") as file:
        file.write(b"\xff")
    code, _, err = init(state, fake_set)
    assert code == 5
    assert "mentee.onnx" in err
    assert not state.root.exists()


def test_a_folder_without_a_set_is_exit_code_5(state: StateDir, tmp_path: Path) -> None:
    assert init(state, tmp_path)[0] == 5


def test_a_damaged_copy_is_repaired_by_doing_it_again(state: StateDir, fake_set: Path) -> None:
    init(state, fake_set)
    (state.artifact_set / "mentor.onnx").write_bytes(b"damaged")
    code, out, _ = init(state, fake_set)
    assert (code, "is repaired" in out) == (0, True)
    open_set(state.artifact_set)


@pytest.mark.parametrize("lost", ["samples.db", "inbox", "models", "set"])
def test_what_an_interruption_left_out_is_made_by_doing_it_again(state: StateDir, fake_set: Path, lost: str) -> None:
    init(state, fake_set)
    path = state.root / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(b"")
    assert init(state, fake_set)[0] == 0
    assert state.is_initialised
    assert linked_generation(state.models) == 0
    SampleStore(state.samples_db, check=True).close()


def test_a_crash_before_the_last_rename_leaves_a_folder_that_is_not_initialised(
    state: StateDir, fake_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = durable.install_folder

    def cut(prepared: Path, destination: Path) -> None:
        if destination == state.artifact_set:
            raise KeyboardInterrupt
        whole(prepared, destination)

    monkeypatch.setattr(durable, "install_folder", cut)
    interrupted = 130
    assert init(state, fake_set)[0] == interrupted
    monkeypatch.undo()
    assert not state.is_initialised
    assert init(state, fake_set)[0] == 0
    assert not [path for path in state.root.iterdir() if path.name.endswith(".tmp")]


def test_a_state_folder_that_cannot_be_made_is_named(fake_set: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = StateDir(tmp_path / "file" / "state")
    code, _, err = init(state, fake_set)
    assert code == 2
    assert "--state-dir" in err
    assert len(err.splitlines()) == 1


def test_a_disk_that_fills_up_leaves_no_half_set(
    state: StateDir, fake_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    code, _, err = init(state, fake_set)
    assert code != 0
    assert "No space left" in err
    assert not state.is_initialised
    assert not list(state.root.glob(".set*"))


def test_init_cut_off_at_any_durable_step_is_finished_by_the_next(
    fake_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, interrupted = os.fsync, 130
    for steps in range(100):
        left = steps

        def fsync(descriptor: int) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            real(descriptor)

        state = StateDir(tmp_path / f"state-{steps}")
        monkeypatch.setattr(os, "fsync", fsync)
        code = init(state, fake_set)[0]
        monkeypatch.setattr(os, "fsync", real)
        assert init(state, fake_set)[0] == 0
        open_set(state.artifact_set)
        assert linked_generation(state.models) == 0
        SampleStore(state.samples_db, check=True).close()
        assert not list(state.root.glob(".*"))
        if code == 0:
            break
        assert code == interrupted
    assert steps > 5


def test_what_a_killed_init_left_is_swept_by_the_next(state: StateDir, fake_set: Path) -> None:
    for name in (".set.tmp", ".models.removed"):
        (state.root / name).mkdir(parents=True)
        (state.root / name / "rest").touch()
    assert init(state, fake_set)[0] == 0
    assert not list(state.root.glob(".*"))
