"""What becomes of a trainer that was stopped in place? It waits with its memory, is asked to leave, or is killed."""

import logging
from collections.abc import Sequence

from mmd.conditions import Instant
from mmd.config import Config
from mmd.layout import StateDir
from mmd.policy import Code, Reason
from mmd.supervisor.held_locks import keeps_others_out
from mmd.supervisor.trainer_process import TrainerProcess

LEAVE_SECONDS = 5.0
"""A trainer that was asked to leave is killed after this."""
LOCK_PATIENCE_SECONDS = 3.0
"""For so long a stopped trainer may keep a lock: most suspensions are over by then, and who wants it waits for 15 s."""
_MEMORY_IS_WANTED = frozenset({Code.MEMORY_LOW, Code.MEMORY_PRESSURE})

log = logging.getLogger(__name__)


class Suspension:
    """One trainer from being stopped until it goes on or ends."""

    def __init__(self, trainer: TrainerProcess, state_dir: StateDir, now: Instant) -> None:
        """Stop the trainer."""
        trainer.suspend()
        self._trainer = trainer
        self._state_dir = state_dir
        self._began = now.monotonic
        self._is_in_the_way: bool | None = None
        self._leave_by: float | None = None

    def look(self, reasons: Sequence[Reason], config: Config, now: Instant) -> None:
        """Have the trainer leave when it is time, and kill one that does not."""
        trainer = self._trainer
        if not trainer.was_asked_to_leave:
            if self._must_leave(reasons, config, now):
                trainer.ask_to_leave()
                self._leave_by = now.awake + LEAVE_SECONDS
        elif self._leave_by is not None and now.awake >= self._leave_by:
            log.warning("the trainer did not leave within %g s and is killed", LEAVE_SECONDS)
            trainer.kill()
            self._leave_by = None

    def _must_leave(self, reasons: Sequence[Reason], config: Config, now: Instant) -> bool:
        """A stopped trainer keeps its memory and its locks: it leaves when these are wanted, or after the grace."""
        if self._is_in_the_way is None and now.monotonic - self._began >= LOCK_PATIENCE_SECONDS:
            # It has long come to a stop: what it holds does not change.
            self._is_in_the_way = keeps_others_out(self._trainer.pid, self._state_dir)
        return (
            self._is_in_the_way is True
            or any(reason.code in _MEMORY_IS_WANTED for reason in reasons)
            or now.monotonic - self._began >= config.daemon.suspend_grace_seconds
        )
