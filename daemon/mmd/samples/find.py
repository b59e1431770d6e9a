"""Which files does a path name, and which label does its folder give each of them?

A folder is read as ImageFolder does: the first level of subfolders names the classes, files directly in it have no
label. Hidden files are passed over. Links are followed, but never round in a circle.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mmd.errors import InputRefused
from mmd.samples.form import Kind, SampleForm

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac"})
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
WINDOW_SUFFIXES = frozenset({".csv"})
SUFFIXES = IMAGE_SUFFIXES | AUDIO_SUFFIXES | ARRAY_SUFFIXES | WINDOW_SUFFIXES
_EXPECTED: dict[Kind, str] = {
    "image": ".png, .jpg, .jpeg, .npy or .npz",
    "audio": ".wav, .flac, .npy or .npz",
    "tensor": ".npy, .npz or .csv",
}


@dataclass(frozen=True)
class Found:
    """A file to read; nothing about its content is known yet."""

    path: Path
    label: str | None
    source: str
    """Its name relative to the folder that was named, for the owner to recognise."""


@dataclass(frozen=True)
class Refusal:
    """Something that was not taken, and why. Nothing of it is stored."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def find(
    path: Path, form: SampleForm, label: str | None = None, *, follow_folders: bool = True
) -> Iterator[Found | Refusal]:
    """Yield every file under `path`, in the order of their names, and what cannot be taken.

    `label` is given to all of them and takes the place of the folders' names. Links to folders are refused unless
    `follow_folders`.
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        yield Refusal(path, explain(error, path))
        return
    if not is_folder:
        yield _file(path, label, path.name, form)
        return
    count = 0
    for item in _Walk(path, form, follow_folders=follow_folders).folder(path, label):
        count += 1
        yield item
    if not count:
        yield Refusal(path, f"the folder holds no samples; expected {_EXPECTED[form.kind]} files.")


class _Walk:
    """One walk through a folder; enters every folder once, so that links cannot lead it round for ever."""

    def __init__(self, root: Path, form: SampleForm, *, follow_folders: bool) -> None:
        self._root = root
        self._form = form
        self._follow_folders = follow_folders
        self._entered: dict[tuple[int, int], Path] = {}

    def folder(self, folder: Path, label: str | None) -> Iterator[Found | Refusal]:
        try:
            status = folder.stat()
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone
        except OSError as error:
            yield Refusal(folder, explain(error, folder))
            return
        first = self._entered.setdefault((status.st_dev, status.st_ino), folder)
        if first != folder:
            yield Refusal(folder, f"is {first} again, by a symbolic link; remove the link.")
            return
        for name in names:
            if not name.startswith("."):
                yield from self._entry(folder / name, label)

    def _entry(self, entry: Path, label: str | None) -> Iterator[Found | Refusal]:
        if not entry.is_dir():
            yield _file(entry, label, str(entry.relative_to(self._root)), self._form)
            return
        if entry.is_symlink() and not self._follow_folders:
            yield Refusal(entry, "is a link to a folder; put the folder itself here.")
            return
        if entry.parent == self._root and label is None:
            try:
                label = self._form.require_class(entry.name)
            except InputRefused as refusal:
                yield Refusal(entry, f"{refusal} Rename the folder, or give --label.")
                return
        yield from self.folder(entry, label)


def _file(path: Path, label: str | None, source: str, form: SampleForm) -> Found | Refusal:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return Refusal(path, explain(error, path))
    suffix = path.suffix.lower()
    if not stat.S_ISREG(mode):
        return Refusal(path, "is not a regular file; only files and folders are read.")
    if suffix not in SUFFIXES or (suffix in WINDOW_SUFFIXES and form.kind != "tensor"):
        shown = f"the extension {path.suffix}" if suffix else "no extension"
        return Refusal(path, f"has {shown}; expected {_EXPECTED[form.kind]}.")
    # A file name is bytes, the store keeps text.
    return Found(path, label, os.fsencode(source).decode(errors="replace"))


def explain(error: OSError, path: Path) -> str:
    """Say what kept `path` from being read."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"is a link to {path.readlink()}, which does not exist."
        return "does not exist."
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself; remove the link."
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied); change its owner or mode."
    return f"cannot be read ({(error.strerror or str(error)).lower()})."


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file. Raises `InputRefused` with the reason alone; never waits for a pipe's other end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise InputRefused(explain(error, path)) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputRefused("is not a regular file; only files and folders are read.")
        yield file
