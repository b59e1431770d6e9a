"""How is a round carried from its first step to its verdict, through suspensions, crashes and restarts?

The daemon tells the runner on every look which reasons hold; the runner starts, stops, resumes and buries trainers
accordingly, and moves the one `State`. Reasons empty means go.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mmd.conditions import Instant
from mmd.config import Config
from mmd.errors import MmdError, ModelsBusy, StoreDamaged
from mmd.layout import StateDir, round_folder
from mmd.policy import Reason
from mmd.policy.decide import has_work
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import DONE_NAME, RoundOutcome, read_outcome
from mmd.samples.store import SampleStore
from mmd.supervisor.control_groups import TrainerGroup
from mmd.supervisor.memory import learn, note_success
from mmd.supervisor.progress import (
    Progress,
    after_step,
    has_trained,
    is_failure,
    last_end,
    open_round,
    progress_on_disk,
)
from mmd.supervisor.retries import RETRY_SECONDS, Retries
from mmd.supervisor.rounds import begin_round, finish_round, is_judged, trainer_command
from mmd.supervisor.states import RUNNING, Event, State, transition
from mmd.supervisor.suspension import LEAVE_SECONDS, Suspension
from mmd.supervisor.trainer_process import TrainerProcess, describe_exit
from mmd.training.plan import read_plan

STOP_SECONDS = 7.0
"""What a trainer has for a last checkpoint when the daemon ends: systemd and users expect that within 10 s."""

TrainerCommand = Callable[[StateDir, int], list[str]]
log = logging.getLogger(__name__)


class Rounds(Protocol):
    """Who is told of rounds and failures: the history."""

    def begin_round(self, number: int, now: Instant) -> None: ...
    def end_round(self, outcome: RoundOutcome) -> None: ...
    def event(self, name: str, detail: str, now: Instant) -> None: ...


class RoundRunner:
    """Owns the state and the one trainer process."""

    def __init__(
        self,
        state_dir: StateDir,
        rounds: Rounds,
        *,
        now: Instant,
        command: TrainerCommand = trainer_command,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        group: TrainerGroup | None = None,
    ) -> None:
        """Find the round that an earlier daemon left open, if any. Trainers enter the control group `group`."""
        self._state_dir = state_dir
        self._rounds = rounds
        self._command = command
        self._group = group
        self._retries = Retries(retry_seconds)
        self.state = State.IDLE
        self.trainer: TrainerProcess | None = None
        self.progress: Progress | None = None
        self.round_ended, self.failed_rounds = last_end(state_dir, now)
        self.has_trained = has_trained(state_dir)
        self._complaint, self._ran_out_of_memory = "", False
        self._is_evaluating = False
        self._suspension: Suspension | None = None
        self._config = Config()
        self._take_up_open_round(now)

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING

    @property
    def retry_at(self) -> float | None:
        """Monotonic time before which a trainer that failed is not started again, or a verdict not carried out."""
        return self._retries.retry_at

    @property
    def is_put_off(self) -> bool:
        """Whether the round is judged, and others were changing the models when its verdict was to be carried out."""
        return self._retries.is_put_off

    @property
    def failure(self) -> str:
        """What the last failure said."""
        return self._retries.message

    def look(self, reasons: Sequence[Reason], config: Config, now: Instant) -> None:
        """Act on the present reasons: start, suspend, resume, or let be. When this changes the state, decide again."""
        before = self.state, self.trainer
        self._bury_if_dead(now)
        self._drop_if_closed_elsewhere(now)
        if (self.state, self.trainer) != before:
            return
        if self.state in RUNNING:
            if reasons:
                assert self.trainer is not None
                self._suspension = Suspension(self.trainer, self._state_dir, now)
                self._move(Event.SUSPENDED)
        elif self.state is State.SUSPENDED:
            self._look_while_suspended(reasons, config, now)
        elif not reasons:
            self._start(config, now)
        elif self.state is State.IDLE and has_work(reasons):
            self._move(Event.WORK_FOUND)
        elif self.state is State.WAITING and not has_work(reasons):
            self._move(Event.WORK_GONE)

    def read_output(self, now: Instant) -> bool:
        """Take in what the trainer said; return whether something changed that needs a new look."""
        if self.trainer is None:
            return False
        before = self.state
        for event in self.trainer.read_events():
            self._take_event(event)
        return self.trainer.has_ended_output or self.state is not before

    def stop(self, clock: Callable[[], Instant]) -> None:
        """Have the trainer write a checkpoint and leave; kill it when it does not."""
        if self.trainer is not None:
            self.trainer.end(within=STOP_SECONDS)
            self._bury_if_dead(clock())

    def _look_while_suspended(self, reasons: Sequence[Reason], config: Config, now: Instant) -> None:
        trainer = self.trainer
        if trainer is None:
            if not reasons:
                self._start(config, now)
        elif reasons or trainer.was_asked_to_leave:
            assert self._suspension is not None
            self._suspension.look(reasons, config, now)
        else:
            trainer.go_on()
            self._move(Event.STARTED)
            if self._is_evaluating:
                self._move(Event.EVALUATION_BEGAN)

    # Starting.

    def _start(self, config: Config, now: Instant) -> None:
        """Begin a round or go on with the open one, in a new process."""
        try:
            number = open_round(self._state_dir)
            if number is None:
                with SampleStore(self._state_dir.samples_db) as store:
                    number = begin_round(self._state_dir, config, store).number
            elif self.state is not State.SUSPENDED:
                self._move(Event.ROUND_FOUND_OPEN)
            if not self._take_up(number, now):
                return
            command = self._command(self._state_dir, number)
            self.trainer = TrainerProcess(command, memory_mib=config.daemon.trainer_memory_mib, group=self._group)
        except (MmdError, OSError, sqlite3.Error) as error:
            self._fail(str(error), now)
            return
        self._complaint, self._ran_out_of_memory = "", False
        self._is_evaluating = False
        self._config = config
        self._rounds.begin_round(number, now)
        self._move(Event.STARTED)

    def _take_up(self, number: int, now: Instant) -> bool:
        """Return whether the round on disk needs a trainer: one that is judged, or without a plan to be read, ends."""
        try:
            self.progress = progress_on_disk(self._state_dir, number)
        except StoreDamaged as error:
            self._abandon(number, str(error), now)
            return False
        if is_judged(self._state_dir, number):
            self._finish(number, now)
            return False
        return True

    def _take_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "step" and self.progress is not None:
            self.progress = after_step(self.progress, event)
        elif kind == "evaluating":
            self._is_evaluating = True
            self._move(Event.EVALUATION_BEGAN)
        elif kind in ("notice", "decided"):
            log.info("%s", str(event.get("message"))[:400])
        elif kind == "failed":
            self._complaint = str(event.get("message", ""))
            self._ran_out_of_memory = event.get("out_of_memory") is True

    # Ending.

    def _bury_if_dead(self, now: Instant) -> None:
        """Draw the conclusion from a trainer that ended: a verdict, a checkpoint, or a failure."""
        trainer = self.trainer
        if trainer is None or (status := trainer.exit_status()) is None:
            return
        for event in trainer.read_events():
            self._take_event(event)
        trainer.close()
        self.trainer = None
        number = self.progress.number if self.progress is not None else 0
        if (round_folder(self._state_dir, number) / DONE_NAME).exists():
            self._end_round(number, now)
            return
        try:
            if is_judged(self._state_dir, number):
                self._finish(number, now)
            elif self._ran_out_of_memory or trainer.was_killed_for_memory:
                self._end_for_memory(number, now)
            elif trainer.was_asked_to_leave and not self._complaint:
                self._move(Event.TRAINER_LOST)
            else:
                self._fail(self._complaint or f"{describe_exit(status)}.", now)
        except (MmdError, OSError, sqlite3.Error) as error:
            self._fail(str(error), now)

    def _finish(self, number: int, now: Instant) -> None:
        """Act on the verdict; a crash in the middle is finished by the next start."""
        try:
            with SampleStore(self._state_dir.samples_db) as store:
                finish_round(self._state_dir, number, store)
        except ModelsBusy:
            self._put_off(number, now)
            return
        note_success(self._state_dir)
        self._end_round(number, now)

    def _put_off(self, number: int, now: Instant) -> None:
        """Carry the verdict out later. That is no failure of the round, however often it happens."""
        if not self._retries.is_put_off:
            log.warning("round=%d is judged; its verdict waits: another command is changing the models", number)
        self._retries.put_off(now.monotonic)
        if self.state in RUNNING:
            self._move(Event.TRAINER_LOST)

    def _end_round(self, number: int, now: Instant) -> None:
        folder = round_folder(self._state_dir, number)
        outcome = read_outcome(folder)
        if outcome is not None:
            self._rounds.end_round(outcome)
            self.failed_rounds = self.failed_rounds + 1 if is_failure(outcome) else 0
        self.progress = None
        self._retries.forget()
        self.round_ended = now.monotonic
        self.has_trained = has_trained(self._state_dir)
        self._move(Event.ROUND_ENDED)

    def _fail(self, message: str, now: Instant) -> None:
        """Wait a while after a failure; give the round up after too many of them without progress."""
        self._retries.note(message, self.progress.step if self.progress is not None else 0, now.monotonic)
        log.warning("the trainer failed (%d): %s", self._retries.failures, message)
        self._rounds.event("trainer_failed", message, now)
        number = open_round(self._state_dir)
        if self.state in RUNNING:
            self._move(Event.TRAINER_LOST)
        elif number is not None and self.state is not State.SUSPENDED:
            self._move(Event.ROUND_FOUND_OPEN)
        if self._retries.is_hopeless and number is not None:
            self._abandon(number, self._retries.account(), now)

    def _end_for_memory(self, number: int, now: Instant) -> None:
        """Give the round up: it would run out of memory again. After some such rounds the next ones take less."""
        plan = read_plan(round_folder(self._state_dir, number))
        lesson = learn(self._state_dir, self._config, plan)
        self._rounds.event("out_of_memory", lesson.told(), now)
        if self.state in RUNNING:
            self._move(Event.TRAINER_LOST)
        self._abandon(number, lesson.told(), now)

    def _abandon(self, number: int, reason: str, now: Instant) -> None:
        """Close the round without a verdict. The next one rests longer first, in case it fails the same way."""
        try:
            ModelStore(self._state_dir).close_round(number, "abandoned", reason)
        except OSError as error:
            self._retries.note(f"cannot close round {number}: {error}", 0, now.monotonic)
            return
        log.warning("round=%d abandoned: %s", number, reason)
        self._end_round(number, now)

    def _drop_if_closed_elsewhere(self, now: Instant) -> None:
        """End at once when another command closed the round: `mmd forget` took a sample of it."""
        number = self.progress.number if self.progress is not None else None
        if number is None or not (round_folder(self._state_dir, number) / DONE_NAME).exists():
            return
        if self.trainer is not None:
            self.trainer.kill()
            self.trainer.wait(LEAVE_SECONDS)
            self._bury_if_dead(now)
        else:
            self._end_round(number, now)

    def _move(self, event: Event) -> None:
        self.state = transition(self.state, event)

    # What an earlier daemon left.

    def _take_up_open_round(self, now: Instant) -> None:
        """Finish or go on with what an earlier daemon left."""
        number = open_round(self._state_dir)
        if number is None:
            return
        self._move(Event.ROUND_FOUND_OPEN)
        try:
            self._take_up(number, now)
        except (MmdError, OSError, sqlite3.Error) as error:
            self._fail(str(error), now)
