"""What does `mmd run` do all day? Look at the board, decide, act, answer, and otherwise sleep."""

import logging
import os
import selectors
from collections.abc import Callable
from pathlib import Path

from mmd.conditions import Conditions, Instant, sense
from mmd.conditions.events import Events
from mmd.conditions.events.listen import openers
from mmd.conditions.reading import system_clock
from mmd.conditions.sense import Seen
from mmd.conditions.usage import NO_USAGE, Usage
from mmd.config import Config
from mmd.durable import make_folder, sweep_removed
from mmd.errors import MmdError
from mmd.layout import StateDir
from mmd.policy import Facts, Mode, Reason, Tracker, decide, look, overridden, remember
from mmd.samples.records import SampleCounts
from mmd.supervisor.accounts import Cost
from mmd.supervisor.announcer import Announcer, summary
from mmd.supervisor.control import ControlServer
from mmd.supervisor.control_groups import take_over
from mmd.supervisor.followers import InboxFollower, TrainerFollower
from mmd.supervisor.hold import held_since
from mmd.supervisor.ledger import Ledger
from mmd.supervisor.lock import DaemonLock
from mmd.supervisor.notify import Notifier
from mmd.supervisor.probation import Probation
from mmd.supervisor.record import Recorder
from mmd.supervisor.requests import Requests
from mmd.supervisor.retries import RETRY_SECONDS
from mmd.supervisor.round_runner import RoundRunner
from mmd.supervisor.rounds import trainer_command
from mmd.supervisor.signals import Signals
from mmd.supervisor.stock import Stock
from mmd.supervisor.trace import TraceWriter

RUNNING_POLL_SECONDS = 0.25
"""While a trainer runs the board is looked at this often at least, whatever `daemon.poll_seconds` says."""
EVENT_REST_SECONDS, IDLE_EVENT_REST_SECONDS = 0.1, 1.0
"""Between two looks that events ask for: while a trainer runs, and while there is nothing to stop."""
_WATCHDOG_SHARE = 1 / 3
_MOST_CHANGES_PER_LOOK = 4
"""A change of state may change the reasons, and these the state: a round that ends leads to idle, or to waiting."""

log = logging.getLogger(__name__)


class Daemon:
    """The supervisor of one state folder. `run` returns after SIGTERM or SIGINT."""

    def __init__(
        self,
        state_dir: StateDir,
        load: Callable[[], Config],
        *,
        config_file: Path | None = None,
        notifier: Notifier | None = None,
        clock: Callable[[], Instant] = system_clock,
        command: Callable[[StateDir, int], list[str]] = trainer_command,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        record: Path | None = None,
    ) -> None:
        """`load` reads the configuration; it is called again on SIGHUP, and may raise `UsageError` then.
        What is sensed is written to `record`."""
        self.state_dir = state_dir
        self._load = load
        self.config = load()
        self._notifier = notifier or Notifier()
        self._clock = clock
        self._command = command
        self._retry_seconds = retry_seconds
        self._selector = selectors.DefaultSelector()
        self._events = Events(self._selector, self._look_for_event)
        self._stock = Stock(state_dir)
        self.mode = Mode.AUTO
        self._forced_after: float | None = None
        self._tracker = Tracker()
        self._seen: Seen | None = None
        self._ledger = Ledger(state_dir, clock())
        self.usage = NO_USAGE
        self.reasons: list[Reason] = []
        self._trace = None if record is None else TraceWriter(record, clock())
        self._trainer = TrainerFollower(self._selector, self._read_trainer)
        self._inbox = InboxFollower(self._selector, state_dir, config_file)
        self._looked_at = self._next_look = 0.0

    def run(self) -> None:
        """Hold the state folder until told to stop. Raises `UsageError` when another process holds it."""
        try:
            make_folder(self.state_dir.root)
        except OSError as error:
            raise MmdError(
                f"Cannot make the state folder {self.state_dir.root} ({error.strerror}); name another by --state-dir."
            ) from error
        with DaemonLock(self.state_dir.lock_file):
            for folder in (self.state_dir.root, self.state_dir.models):
                sweep_removed(folder)
            self._signals = Signals(self._selector, self._look_soon)
            now = self._clock()
            self._recorder = Recorder(self.state_dir.history_db, now)
            self._probation = Probation(self.state_dir, self._recorder)
            self._probation.settle(now)
            self._announcer = Announcer(self._recorder, self._notifier)
            self.runner = RoundRunner(
                self.state_dir,
                self._recorder,
                now=now,
                command=self._command,
                retry_seconds=self._retry_seconds,
                group=take_over(),
            )
            self._events.listen(openers(Path(self.config.daemon.sys_root), self.config.conditions))
            control = ControlServer(self.state_dir.control_socket, self._selector, Requests(self).answer)
            try:
                self.look()
                self._notifier.ready(summary(self.runner.state, self.mode, self.reasons, self.runner.progress))
                while not self._signals.is_stop_asked:
                    self._wait()
                self._notifier.stopping()
            finally:
                control.close()
                self._leave()

    # The loop.

    def _wait(self) -> None:
        """Sleep until something happens or the next look is due."""
        if self._signals.take_reload():
            self._reload()
        now = self._clock().monotonic
        for key, _ in self._selector.select(max(0.0, self._next_look - now)):
            key.data()
        if not self._signals.is_stop_asked and self._clock().monotonic >= self._next_look:
            self.look()

    def look(self) -> Conditions:
        """Look at the board once, decide, and act."""
        now = self._clock()
        config = self.config
        self.usage = self._turn_ledger(now)
        conditions, self._seen = sense(
            Path(config.daemon.sys_root),
            self.state_dir.root,
            now=now,
            limits=config.conditions,
            before=self._seen,
            own_processes=self._own_processes(),
            usage=self.usage,
            sessions=self._events.sessions,
            alarms=self._events.take_alarms(),
        )
        if self._trace is not None:
            self._trace.note(conditions)
        self._tracker = look(self._tracker, conditions, config.conditions)
        for _ in range(_MOST_CHANGES_PER_LOOK):
            state_before = self.runner.state
            self._decide(conditions, now)
            self.runner.look(self.reasons, config, now)
            if self.runner.state is state_before:
                break
        self._trainer.follow(self.runner.trainer)
        self._probation.look(self.counts(), config, now)
        self._inbox.follow(is_wanted=config.daemon.watch_inbox and self.state_dir.is_initialised)
        runner = self.runner
        self._announcer.note(runner.state, self.mode, self.reasons, conditions, runner.progress, now)
        self._ledger.save_if_due(now)
        self._notifier.alive()
        self._looked_at, self._next_look = now.monotonic, now.monotonic + self._poll_seconds()
        return conditions

    def _turn_ledger(self, now: Instant) -> Usage:
        """Enter what training used since the last look; return what it used today and in this run."""
        progress = self.runner.progress
        return self._ledger.turn(
            now,
            round_number=progress.number if self.runner.is_running and progress is not None else None,
            limits=self.config.conditions.duty_cycle,
            root=Path(self.config.daemon.sys_root),
        )

    def _own_processes(self) -> list[int]:
        """Return this process and its children that live; those that ended are counted with this one."""
        trainer = self.runner.trainer
        children = [trainer.pid] if trainer is not None else []
        children += [pid for pid in (self._inbox.pid, self._probation.pid) if pid is not None]
        return [os.getpid(), *children]

    def _decide(self, conditions: Conditions, now: Instant) -> None:
        if self.mode is Mode.FORCED and self._is_forced_round_over():
            self.mode = Mode.AUTO
        self.reasons = decide(conditions, self._facts(), self.config, tracker=self._tracker, mode=self.mode, now=now)
        self._tracker = remember(self._tracker, self.reasons, now)

    def _facts(self) -> Facts:
        counts = self.counts()
        runner = self.runner
        return Facts(
            is_running=runner.is_running,
            has_artifact_set=self.state_dir.is_initialised,
            is_round_open=runner.progress is not None,
            trainable=counts.trainable,
            new=counts.new,
            has_trained=runner.has_trained,
            held_since=held_since(self.state_dir),
            samples_grew=self._stock.grew_at,
            round_ended=runner.round_ended,
            failed_rounds=runner.failed_rounds,
            retry_at=runner.retry_at,
            failure=runner.failure,
            is_put_off=runner.is_put_off,
        )

    def _poll_seconds(self) -> float:
        seconds: float = self.config.daemon.poll_seconds
        if self.runner.is_running or self.runner.trainer is not None:
            seconds = min(seconds, RUNNING_POLL_SECONDS)
        if self._notifier.watchdog_seconds is not None:
            seconds = min(seconds, self._notifier.watchdog_seconds * _WATCHDOG_SHARE)
        return seconds

    def _look_for_event(self) -> None:
        """Look at once, but for events that come in a storm."""
        rest = EVENT_REST_SECONDS if self.runner.is_running else IDLE_EVENT_REST_SECONDS
        self._next_look = min(self._next_look, self._looked_at + rest)

    def _look_soon(self) -> None:
        self._next_look = 0.0

    def _read_trainer(self) -> None:
        if self.runner.read_output(self._clock()):
            self._look_soon()

    # What the answers on the control socket need.

    def counts(self) -> SampleCounts:
        return self._stock.counts(self._clock())

    def cost(self) -> Cost:
        progress = self.runner.progress
        return Cost() if progress is None else self._ledger.cost_of(progress.number)

    def overridden(self, conditions: Conditions) -> list[Reason]:
        """Return the reasons that the present mode ignores."""
        now, tracker = self._clock(), self._tracker
        return overridden(conditions, self._facts(), self.config, tracker=tracker, mode=self.mode, now=now)

    def force(self, *, is_forced: bool) -> None:
        """Enter or leave the forced mode; it ends by itself with its round."""
        self.mode = Mode.FORCED if is_forced else Mode.AUTO
        self._forced_after = self.runner.round_ended

    def expect_no_more_samples(self) -> None:
        self._stock.grew_at = None

    def _is_forced_round_over(self) -> bool:
        return self.runner.progress is None and self.runner.round_ended != self._forced_after

    # Reload, end.

    def _reload(self) -> None:
        """Read the configuration again; one that is refused changes nothing."""
        try:
            self.config = self._load()
        except MmdError as error:
            log.warning("%s The configuration in force stays as it is.", error)
            self._recorder.event("config_refused", str(error), self._clock())
            return
        log.info("configuration reloaded")
        self._events.listen(openers(Path(self.config.daemon.sys_root), self.config.conditions))
        self._look_soon()

    def _leave(self) -> None:
        """Let the trainer write its checkpoint, then put everything down."""
        self._inbox.close()
        self._probation.close()
        self._trainer.close()
        self._events.close()
        self.runner.stop(self._clock)
        self._ledger.save(self._clock())
        self._recorder.stop(self._clock())
        if self._trace is not None:
            self._trace.close()
        log.info("stopped")
        self._signals.close()
        self._selector.close()
