"""Does a crash or a full disk leave the old version or the new one, never half, and nothing lying about?"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmd import durable

OLD, NEW = b"the old version", b"the new version, which is longer"


class Disk:
    """Records what is forced to disk and renamed, in order, and fails at the call that it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.error: BaseException = OSError(errno.ENOSPC, "No space left on device")
        real_fsync, real_rename, real_replace = os.fsync, os.rename, os.replace

        def fsync(descriptor: int) -> None:
            self._count("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
            real_fsync(descriptor)

        def rename(source: os.PathLike[str], target: os.PathLike[str]) -> None:
            self._count("rename " + Path(target).name)
            real_rename(source, target)

        def replace(source: os.PathLike[str], target: os.PathLike[str]) -> None:
            self._count("rename " + Path(target).name)
            real_replace(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(os, "replace", replace)

    def _count(self, call: str) -> None:
        self.calls.append(call)
        if self.fail_at is not None and len(self.calls) > self.fail_at:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_forced_to_disk_before_its_rename_and_the_folder_after(disk: Disk, tmp_path: Path) -> None:
    durable.write_bytes(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW
    temporary = f".file.{os.getpid()}.tmp"
    assert disk.calls == [f"fsync {temporary}", "rename file", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("fail_at", [0, 1])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_version_and_no_rubbish(
    disk: Disk, tmp_path: Path, fail_at: int, error: BaseException
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    disk.fail_at, disk.error = fail_at, error
    with pytest.raises(type(error)):
        durable.write_bytes(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == OLD
    assert names(tmp_path) == {"file"}


def test_a_folder_that_cannot_be_forced_is_told_and_the_file_is_whole(disk: Disk, tmp_path: Path) -> None:
    disk.fail_at = 2
    with pytest.raises(OSError, match="No space"):
        durable.write_bytes(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


def test_a_link_is_turned_in_one_step(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("one")
    durable.replace_link(tmp_path / "current", "two")
    assert (tmp_path / "current").readlink() == Path("two")
    assert disk.calls == ["rename current", f"fsync {tmp_path.name}"]


def test_a_link_that_could_not_be_turned_still_names_the_old(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("one")
    disk.fail_at = 0
    with pytest.raises(OSError, match="No space"):
        durable.replace_link(tmp_path / "current", "two")
    assert (tmp_path / "current").readlink() == Path("one")
    disk.fail_at = None
    durable.replace_link(tmp_path / "current", "three")
    assert names(tmp_path) == {"current"}


def prepare(tmp_path: Path) -> Path:
    prepared = tmp_path / ".prepared"
    (prepared / "deep").mkdir(parents=True)
    (prepared / "a").write_bytes(NEW)
    (prepared / "deep" / "b").write_bytes(NEW)
    return prepared


def test_everything_in_a_folder_is_forced_to_disk_before_it_gets_its_name(disk: Disk, tmp_path: Path) -> None:
    durable.install_folder(prepare(tmp_path), tmp_path / "set")
    rename = disk.calls.index("rename set")
    assert set(disk.calls[:rename]) == {"fsync a", "fsync b", "fsync deep", "fsync .prepared"}
    assert disk.calls[rename + 1 :] == [f"fsync {tmp_path.name}"]
    assert (tmp_path / "set" / "deep" / "b").read_bytes() == NEW


@pytest.mark.parametrize("fail_at", range(5))
def test_a_folder_is_whole_under_its_name_or_not_there(disk: Disk, tmp_path: Path, fail_at: int) -> None:
    prepared = prepare(tmp_path)
    disk.fail_at = fail_at
    with pytest.raises(OSError, match="No space"):
        durable.install_folder(prepared, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_removed_folder_loses_its_name_first(disk: Disk, tmp_path: Path) -> None:
    folder = prepare(tmp_path).rename(tmp_path / "set")
    disk.calls.clear()
    durable.remove_folder(folder)
    assert disk.calls == ["rename .set.removed", f"fsync {tmp_path.name}"]
    assert names(tmp_path) == set()


def test_what_a_cut_off_removal_left_is_no_obstacle_for_the_next(tmp_path: Path) -> None:
    (tmp_path / ".set.removed").mkdir()
    (tmp_path / ".set.removed" / "rest").touch()
    folder = prepare(tmp_path).rename(tmp_path / "set")
    durable.remove_folder(folder)
    assert names(tmp_path) == set()


def test_every_new_folder_is_forced_into_its_parent(disk: Disk, tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b")
    assert disk.calls == [f"fsync {tmp_path.parent.name}", f"fsync {tmp_path.name}", "fsync a"]


def test_a_move_forces_both_folders(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "file").write_bytes(NEW)
    durable.move(tmp_path / "from" / "file", tmp_path / "to" / "file")
    assert disk.calls == ["rename file", "fsync to", "fsync from"]
    assert (tmp_path / "to" / "file").read_bytes() == NEW


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: durable.write_bytes(folder / "gone" / "file", NEW),
        lambda folder: durable.fsync_folder(folder / "gone"),
        lambda folder: durable.remove_folder(folder / "gone"),
    ],
)
def test_a_missing_folder_is_told(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path)


@settings(max_examples=30, deadline=None)
@given(versions=st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_the_last_version_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, versions: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("durable") / "file"
    for version in versions:
        durable.write_bytes(path, version)
        assert path.read_bytes() == version


def test_a_folder_that_a_killed_process_made_is_forced_to_disk_too(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()  # its maker was killed before it forced the folder above
    durable.make_folder(tmp_path / "made" / "deeper")
    assert disk.calls == [f"fsync {tmp_path.name}", "fsync made"]
    disk.calls.clear()
    durable.make_folder(tmp_path / "made" / "deeper")
    assert disk.calls == ["fsync made"]


def test_a_removal_that_was_killed_is_finished_by_the_next_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gen-0001").mkdir()
    (tmp_path / "gen-0001" / "model").write_bytes(OLD)
    (tmp_path / ".hidden").mkdir()

    def killed(folder: Path, **options: object) -> None:
        if Path(folder).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            durable.remove_folder(tmp_path / "gen-0001")
    assert names(tmp_path) == {".gen-0001.removed", ".hidden"}
    durable.sweep_removed(tmp_path)
    assert names(tmp_path) == {".hidden"}
    durable.sweep_removed(tmp_path / "nothing")


def two_folders(parent: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        (parent / name).mkdir()
        (parent / name / "file").write_text(name)
    return parent / "new", parent / "old"


def test_a_folder_is_replaced_and_nothing_of_the_old_one_stays(tmp_path: Path) -> None:
    prepared, destination = two_folders(tmp_path)
    durable.replace_folder(prepared, destination)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (destination / "file").read_text() == "new"


@pytest.mark.parametrize("which", [1, 2])
def test_a_replacement_that_is_interrupted_leaves_the_old_folder(
    which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, destination = two_folders(tmp_path)
    renames = iter(range(1, 10))

    def rename(path: Path, target: Path) -> Path:
        if next(renames) == which:
            raise KeyboardInterrupt
        path.replace(target)
        return target

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        durable.replace_folder(prepared, destination)
    assert (destination / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
