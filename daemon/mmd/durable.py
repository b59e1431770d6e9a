"""How is something written so that a power cut leaves the old version or the new one, never half?

The order is always: temporary name in the same folder, write, fsync, close, rename, fsync the folder.
This is the only module that renames into place.
"""

import contextlib
import os
from pathlib import Path

REMOVED_SUFFIX = ".removed"
"""Of a folder, hidden by a dot, that is on its way out; `sweep_removed` finishes what a kill interrupted."""


def fsync_folder(folder: Path) -> None:
    """Force the folder's entries to disk; a rename alone can vanish on power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, each durable in its own parent.

    One that is there already is made durable too: who made it may have been killed before they came to that.
    """
    if folder.is_dir():
        with contextlib.suppress(PermissionError):  # in a folder that we cannot open, somebody else made it
            fsync_folder(folder.parent)
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`. A crash leaves the old content or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target` (relative to its folder) in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync_folder(link.parent)


def install_folder(prepared: Path, destination: Path) -> None:
    """Rename the finished folder `prepared` to `destination`, every file in it forced to disk first.

    `prepared` lies on the same file system; `destination` does not exist yet.
    """
    _fsync_all(prepared)
    prepared.rename(destination)
    fsync_folder(destination.parent)


def replace_folder(prepared: Path, destination: Path) -> None:
    """Put the finished folder `prepared` where the folder `destination` is.

    An error or an interruption leaves the old one or the new one; a crash may leave both, whole, beside the name.
    """
    import shutil  # slow to import, and no command that only reads needs it

    _fsync_all(prepared)
    doomed = destination.with_name(f".{destination.name}{REMOVED_SUFFIX}")
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        destination.rename(doomed)
        prepared.rename(destination)
        fsync_folder(destination.parent)
    except BaseException:
        if not destination.exists():
            doomed.rename(destination)
        raise
    finally:
        shutil.rmtree(doomed, ignore_errors=True)


def _fsync_all(prepared: Path) -> None:
    for folder, _, names in os.walk(prepared):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(folder))


def remove_folder(folder: Path) -> None:
    """Remove `folder` so that a crash leaves it whole under its name, or gone from it."""
    import shutil  # slow to import, and no command that only reads needs it

    doomed = folder.with_name(f".{folder.name}{REMOVED_SUFFIX}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    fsync_folder(folder.parent)
    with contextlib.suppress(FileNotFoundError):  # somebody who sweeps up took it
        shutil.rmtree(doomed)


def sweep_removed(folder: Path) -> None:
    """Finish every `remove_folder` in `folder` that was killed before its end."""
    for doomed in folder.glob(f".*{REMOVED_SUFFIX}"):
        import shutil

        shutil.rmtree(doomed, ignore_errors=True)


def move(path: Path, destination: Path) -> None:
    """Rename `path` to `destination` on the same file system, durably; what was at `destination` is replaced."""
    path.rename(destination)
    fsync_folder(destination.parent)
    if path.parent != destination.parent:
        fsync_folder(path.parent)
