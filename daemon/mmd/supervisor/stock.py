"""How many samples are there? Asked every second, so the store is only opened again after it changed."""

import logging
from pathlib import Path

from mmd.conditions import Instant
from mmd.errors import MmdError
from mmd.layout import StateDir
from mmd.samples.counts import NO_SAMPLES, count_samples
from mmd.samples.records import SampleCounts

_Signature = tuple[tuple[int, int, int] | None, ...]
log = logging.getLogger(__name__)


class Stock:
    """The counts of one sample store, kept until its files change."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.samples_db
        self._signature: _Signature | None = None
        self._counts = NO_SAMPLES
        self._is_first = True
        self.grew_at: float | None = None
        """Monotonic time when there were suddenly more samples; `None` when that was not seen yet."""

    def counts(self, now: Instant) -> SampleCounts:
        """Return the present counts; the last known ones while the store cannot be read."""
        signature = self._current_signature()
        if signature != self._signature:
            self._signature = signature
            total, is_first = self._counts.total, self._is_first
            try:
                self._counts = count_samples(self._path)
                self._is_first = False
                if self._counts.total > total and not is_first:
                    self.grew_at = now.monotonic
            except MmdError as error:
                log.warning("%s", error)
                self._signature = None if _is_passing(error) else signature
        return self._counts

    def _current_signature(self) -> _Signature:
        return tuple(_stamp(path) for path in (self._path, self._path.with_name(self._path.name + "-wal")))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_passing(error: MmdError) -> bool:
    """Return whether the store may answer the next time without having changed: it was only busy."""
    return type(error) is MmdError
