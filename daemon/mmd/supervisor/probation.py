"""When is the model on probation reviewed, and who takes it back? A child compares; the supervisor acts on its review.

A review is due when labelled samples came since the last one. It takes a second or two of an idle-scheduled process.
"""

import contextlib
import logging
import os
import subprocess

from mmd.artifact.card import generation_folder, linked_generation, read_card
from mmd.artifact.review import Review, phase_of
from mmd.conditions import Instant
from mmd.config import Config, GateConfig
from mmd.errors import MmdError
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.samples.records import SampleCounts
from mmd.samples.store import SampleStore
from mmd.supervisor.cage import caged
from mmd.supervisor.record import Recorder
from mmd.supervisor.reviewer import reviewer_command
from mmd.supervisor.trainer_process import describe_exit

REST_SECONDS = 30.0
"""Between two reviews: samples often come one by one."""
_LONGEST_REST_SECONDS = 3600.0
"""After failures in a row, each of which doubles the rest."""
_DOUBLINGS = 16
"""Of the rest, at the most: numbers end somewhere."""
_PATIENCE_SECONDS = 600.0
"""On a board that is in use an idle-scheduled child may take long."""
_STOP_SECONDS = 2.0

log = logging.getLogger(__name__)


def is_review_due(state: StateDir, now: float) -> bool:
    """Return whether the serving model is on probation and labelled samples came since it serves."""
    generation = linked_generation(state.models)
    if generation is None or not state.samples_db.exists():
        return False
    folder = generation_folder(state.models, generation)
    try:
        card = read_card(folder)
        if phase_of(folder, card, now) != "probation":
            return False
        with SampleStore(state.samples_db) as store:
            return store.labelled_since(card.created) > 0
    except MmdError as error:
        log.warning("%s", error)
        return False


def review_now(state: StateDir, settings: GateConfig, now: float) -> Review | None:
    """Review the serving model where no daemon does; return the review by which it was taken back, if it was."""
    if is_review_due(state, now):
        subprocess.run(reviewer_command(state, settings), stdin=subprocess.DEVNULL, check=False)
    return ModelStore(state).settle()


class Probation:
    """Has the serving model reviewed while it is on probation."""

    def __init__(self, state: StateDir, recorder: Recorder, *, rest_seconds: float = REST_SECONDS) -> None:
        self._state = state
        self._recorder = recorder
        self._rest = rest_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._reviewed: tuple[int | None, int, int] | None = None
        """Of the last review: the generation, and how many samples there were, labelled and in all."""
        self._next = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Of the reviewer that runs; `None` when none does."""
        return None if self._child is None else self._child.pid

    def look(self, counts: SampleCounts, config: Config, now: Instant) -> None:
        """Reap a reviewer that ended, act on its review, and begin the next one when it is due."""
        if self._child is not None:
            self._reap(now)
            return
        stock = (linked_generation(self._state.models), counts.labelled, counts.total)
        if stock == self._reviewed or now.monotonic < self._next:
            return
        self._reviewed = stock
        if is_review_due(self._state, now.wall):
            self._begin(config, now)
        elif self._failures:
            self.settle(now)

    def settle(self, now: Instant) -> None:
        """Take the serving model back when its review says so; later, where the disk refuses or others are at it."""
        try:
            failed = ModelStore(self._state).settle()
        except (MmdError, OSError) as error:
            self._put_off(f"cannot take the model on probation back now: {error}", now)
            return
        self._failures = 0
        if failed is not None:
            self._recorder.taken_back(failed, now)

    def _begin(self, config: Config, now: Instant) -> None:
        command = caged(
            reviewer_command(self._state, config.gate),
            memory_mib=config.daemon.trainer_memory_mib,
            parent=os.getpid(),
        )
        self._began, self._next = now.monotonic, now.monotonic + self._rest
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as error:
            self._put_off(f"cannot review the model on probation now: {error}", now)

    def _reap(self, now: Instant) -> None:
        assert self._child is not None
        status = self._child.poll()
        if status is None:
            if now.monotonic - self._began > _PATIENCE_SECONDS:
                self._child.kill()
            return
        self._child = None
        if status != 0:
            self._put_off(f"the review of the model on probation failed: {describe_exit(status)}", now)
            return
        self.settle(now)

    def _put_off(self, complaint: str, now: Instant) -> None:
        """Try anew after a rest, a longer one each time."""
        log.warning("%s", complaint)
        self._failures += 1
        self._reviewed = None
        self._next = now.monotonic + min(self._rest * 2 ** min(self._failures, _DOUBLINGS), _LONGEST_REST_SECONDS)

    def close(self) -> None:
        """End a reviewer that runs; the next daemon begins another."""
        if self._child is not None:
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # on a busy board it may take longer to be gone
                self._child.wait(_STOP_SECONDS)
            self._child = None
