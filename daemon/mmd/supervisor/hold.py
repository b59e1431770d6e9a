"""Does the owner hold training? A file says so, across restarts of the daemon and of the board."""

from mmd.durable import fsync_folder, make_folder, write_bytes
from mmd.layout import StateDir


def held_since(state_dir: StateDir) -> float | None:
    """Return since when (seconds since 1970) the owner holds training; `None` when they do not."""
    try:
        return state_dir.hold_file.stat().st_mtime
    except OSError:
        return None


def hold(state_dir: StateDir) -> bool:
    """Hold training until `release`; return whether it was held already."""
    if held_since(state_dir) is not None:
        return True
    make_folder(state_dir.root)
    write_bytes(state_dir.hold_file, b"")
    return False


def release(state_dir: StateDir) -> bool:
    """Let training run again; return whether it was held."""
    try:
        state_dir.hold_file.unlink()
    except FileNotFoundError:
        return False
    fsync_folder(state_dir.root)
    return True
