"""What does the loop of the daemon need of a source of events? A file descriptor, and little more."""

from typing import Protocol


class Unavailable(Exception):
    """This machine, or this sandbox, does not have such a source. The message says why."""


class Source(Protocol):
    """Becomes readable when something may have changed. Nothing depends on it: the daemon looks every second anyway."""

    name: str

    def fileno(self) -> int:
        """Return what the loop waits on."""

    def take(self) -> bool:
        """Take what has come; return whether the board is to be looked at. Raises `OSError` when the source is dead."""

    def close(self) -> None:
        """Give the file descriptor back."""
