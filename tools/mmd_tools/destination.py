"""Where does a command's file go? Behind symbolic links, into a folder that is there, and over plain files only."""

from pathlib import Path

from mmd.errors import UsageError


def behind_links(path: Path, option: str = "--out") -> Path:
    """Return the absolute path that `path` stands for: a link stays a link. Raises `UsageError` for no plain file."""
    place = path.resolve()
    if place.exists() and not place.is_file():
        raise UsageError(f"{path} for {option} is no plain file; name another.")
    return place


def destination(path: Path, option: str = "--out") -> Path:
    """Return `behind_links(path)`. Raises `UsageError` where its folder does not exist."""
    place = behind_links(path, option)
    if not place.parent.is_dir():
        raise UsageError(f"The folder {place.parent} for {option} does not exist; make it first.")
    return place
