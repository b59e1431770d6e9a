"""Which errors the product raises on purpose, and the exit code that each one owns.

Every message says what happened, to which thing, and what to do next, on one line.
"""

import errno
from collections.abc import Iterator


class MmdError(Exception):
    """Any failure that the product foresees; `str()` of it is the one line that the user sees."""

    exit_code = 1


class UsageError(MmdError):
    """The command or the configuration asks for something that does not exist or contradicts itself."""

    exit_code = 2


class InputRefused(MmdError):
    """A sample, label or file cannot be taken; nothing of it was stored."""

    exit_code = 3


class StoreDamaged(MmdError):
    """Something in the state folder does not verify."""

    exit_code = 4


class ArtifactRefused(MmdError):
    """An artifact set or a model is damaged, incomplete, or of a format that is not understood."""

    exit_code = 5


class ModelsBusy(MmdError):
    """Another process changes which model serves, and has not been done in time."""


class DaemonNotRunning(MmdError):
    """The command needs a running daemon and none answers on the control socket."""

    exit_code = 6


class TrainingFailed(MmdError):
    """A round cannot go on (losses that are not finite, an engine that does not start)."""


_DISK_ADVICE = {
    errno.ENOSPC: "free some space and try again.",
    errno.EDQUOT: "free some space and try again.",
    errno.EACCES: "change its owner or mode, or run this as its owner.",
    errno.EPERM: "change its owner or mode, or run this as its owner.",
    errno.EROFS: "choose another place, or make it writable.",
}
"""What to do when a disk refuses what a command did not expect to be refused."""

_WANT_OF_MEMORY = (
    "bad_alloc",
    "failed to allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "out of memory",
    "error return without exception set",
)
"""What onnxruntime, the C library, the linker and (in mid-import) Python say; none has a class of its own for it."""

INTERRUPTED = 130
"""Exit code after ctrl-C, as shells have it: 128 and the signal's number."""


def was_interrupted(error: BaseException) -> bool:
    """Return whether ctrl-C is behind an error: a library that is interrupted while it loads says ImportError."""
    return any(isinstance(each, KeyboardInterrupt) for each in _causes(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, is the want of memory."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or any(words in str(each).lower() for words in _WANT_OF_MEMORY)
        for each in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def unforeseen(error: Exception) -> str:
    """Return the one line that the user sees of an error that nobody raised on purpose."""
    advice = _DISK_ADVICE.get(error.errno or 0) if isinstance(error, OSError) else None
    if not isinstance(error, OSError) or advice is None:
        return f"{type(error).__name__}: {error} (--debug before the command shows the traceback)"
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}; {advice}"
