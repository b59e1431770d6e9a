"""What does one sensor say, from which files, and which of them could not be believed?"""

import os
import time
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

V = TypeVar("V")
MOST_DIGITS = 20
"""Of the kernel's counters, which have 64 bits; with a sign."""
_READ_BYTES = 65536


class Instant(msgspec.Struct, frozen=True):
    """One moment on both clocks: the wall clock is shown, only the monotonic one is reckoned with."""

    wall: float
    """Seconds since 1970; it may jump both ways."""
    monotonic: float
    """Seconds since the machine started, asleep or awake; it never goes back."""
    asleep: float = 0.0
    """How many of them it was asleep."""

    @property
    def awake(self) -> float:
        """Seconds that the machine was awake since it started."""
        return self.monotonic - self.asleep

    def wall_of(self, monotonic: float) -> float:
        """Return the wall time of an earlier moment as today's wall clock has it."""
        return self.wall - (self.monotonic - monotonic)


def system_clock() -> Instant:
    awake, since_start = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    return Instant(wall=time.time(), monotonic=since_start, asleep=since_start - awake)


class Reading(msgspec.Struct, Generic[V], frozen=True):
    """The value of one condition. `None` says that the board has no such sensor."""

    value: V | None
    detail: str
    """Where the value comes from, in words."""
    problems: tuple[str, ...] = ()
    """What was ignored, and why; each names its file."""
    ceiling: float | None = None
    """A stop level of the hardware's own, where it has one that is stricter than the owner's."""


def read_text(path: Path | str) -> str | None:
    """Return the stripped content of a small kernel file, or `None` when it is missing, unreadable or not text."""
    try:
        # Not Path.read_text: every file is read every second, and this takes a third of the time. For the same reason
        # paths that are read at every look are joined as strings.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            content = b""
            while chunk := os.read(descriptor, _READ_BYTES):
                content += chunk
        finally:
            os.close(descriptor)
        return content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_integer(path: Path | str) -> int | None:
    """Return the number in a small kernel file, or `None` when there is none."""
    text = read_text(path)
    return None if text is None else parse_integer(text)


def parse_integer(text: str) -> int | None:
    """Return the number that `text` is; `None` for anything else, and for more digits than a kernel writes."""
    try:
        return int(text) if len(text) <= MOST_DIGITS else None
    except ValueError:
        return None


def list_folder(folder: Path | str) -> list[str]:
    """Return the sorted names in `folder`; none when it is missing or unreadable."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 (only the names are wanted)
    except OSError:
        return []


def shown(root: Path, path: Path | str) -> str:
    """Return `path` as the kernel names it, whatever folder stands in for `/`."""
    try:
        return "/" + str(Path(path).relative_to(root))
    except ValueError:
        return str(path)
