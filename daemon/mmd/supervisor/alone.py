"""How does `mmd train` run a round where no daemon runs? As the daemon would: with the same trainer and the same books.

The ledger counts the minutes and the energy, so that budgets hold whoever trained, and the history has the round.
"""

import math
import os
import select
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from mmd.artifact.review import Review
from mmd.conditions import Conditions, sense
from mmd.conditions.reading import system_clock
from mmd.conditions.sense import Seen
from mmd.conditions.usage import Usage
from mmd.config import Config
from mmd.errors import TrainingFailed
from mmd.layout import StateDir, round_folder
from mmd.policy import Facts, Mode, Reason, Tracker, decide, look
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import RoundOutcome, read_outcome
from mmd.samples.records import SampleCounts
from mmd.samples.store import SampleStore
from mmd.supervisor.hold import held_since
from mmd.supervisor.ledger import Ledger
from mmd.supervisor.memory import learn, note_success
from mmd.supervisor.probation import review_now
from mmd.supervisor.progress import has_trained, open_round
from mmd.supervisor.record import Recorder
from mmd.supervisor.rounds import begin_round, finish_round, is_judged, trainer_command
from mmd.supervisor.states import State
from mmd.supervisor.trainer_process import TrainerProcess, describe_exit
from mmd.training.plan import RoundPlan, read_plan

LEAVE_SECONDS = 30.0
"""Nobody else waits for the trainer: it has its time for the checkpoint."""
_LOOK_SECONDS = 1.0

OnEvent = Callable[[dict[str, Any]], None]


class LoneRound:
    """One round, run by a command that holds the state folder."""

    def __init__(self, state_dir: StateDir, config: Config) -> None:
        """Open the books. The caller holds the daemon's lock."""
        self._state_dir = state_dir
        self._config = config
        now = system_clock()
        self._ledger = Ledger(state_dir, now)
        self._recorder = Recorder(state_dir.history_db, now)
        self._seen: Seen | None = None
        self._looked_at = -math.inf
        self._step = 0
        self.number: int | None = None
        """Of the round, once it is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the books: with the outcome where there is one, else the round stays open."""
        if isinstance(error, TrainingFailed):
            self._recorder.event("trainer_failed", str(error), system_clock())
        outcome = None if self.number is None else read_outcome(round_folder(self._state_dir, self.number))
        if outcome is not None:
            self._recorder.end_round(outcome)
        now = system_clock()
        self._ledger.save(now)
        self._recorder.stop(now)

    def reasons(self, counts: SampleCounts) -> list[Reason]:
        """Return what speaks against a round now; empty means go."""
        now = system_clock()
        conditions = self._sense(self._used(is_running=False))
        facts = Facts(
            is_round_open=open_round(self._state_dir) is not None,
            trainable=counts.trainable,
            new=counts.new,
            has_trained=has_trained(self._state_dir),
            held_since=held_since(self._state_dir),
        )
        tracker = look(Tracker(), conditions, self._config.conditions)
        return decide(conditions, facts, self._config, tracker=tracker, mode=Mode.AUTO, now=now)

    def review(self) -> Review | None:
        """Have the model on probation judged by what came since; return the review by which it was taken back."""
        now = system_clock()
        lost = review_now(self._state_dir, self._config.gate, now.wall)
        if lost is not None:
            self._recorder.taken_back(lost, now)
        return lost

    def run(self, store: SampleStore, on_plan: Callable[[RoundPlan], None], on_event: OnEvent) -> RoundOutcome:
        """Begin a round or go on with the open one, and act on its verdict.

        Raises what the trainer failed with. `KeyboardInterrupt` has it make a checkpoint and leave, and goes on.
        """
        plan = begin_round(self._state_dir, self._config, store)
        self.number = plan.number
        self._used(is_running=False)  # what passed until now was no training
        self._recorder.begin_round(plan.number, system_clock())
        if not is_judged(self._state_dir, plan.number):
            on_plan(plan)
            self._train(plan.number, on_event)
        outcome = read_outcome(round_folder(self._state_dir, plan.number))
        if outcome is None:
            outcome = finish_round(self._state_dir, plan.number, store)
            note_success(self._state_dir)
        return outcome

    def _train(self, number: int, on_event: OnEvent) -> None:
        command = trainer_command(self._state_dir, number)
        trainer = TrainerProcess(command, memory_mib=self._config.daemon.trainer_memory_mib)
        failure, ran_out_of_memory = "", False
        try:
            while not trainer.has_ended_output:
                self._look(trainer.pid)
                select.select([trainer.fileno()], [], [], _LOOK_SECONDS)
                for event in trainer.read_events():
                    on_event(event)
                    self._step = int(event.get("step", self._step))
                    if event["event"] == "failed":
                        failure, ran_out_of_memory = str(event.get("message")), event.get("out_of_memory") is True
            status = trainer.wait(LEAVE_SECONDS)
        except KeyboardInterrupt:
            trainer.ask_to_leave()
            trainer.wait(LEAVE_SECONDS)
            raise
        finally:
            self._used(is_running=True)
            trainer.close()
        if ran_out_of_memory or trainer.was_killed_for_memory:
            self._give_up_for_memory(number)
        if status != 0:
            error = TrainingFailed(
                failure
                or f"The trainer of round {number} broke off ({describe_exit(status)}); `mmd train` goes on with it."
            )
            error.exit_code = status if status > 0 else 1
            raise error

    def _give_up_for_memory(self, number: int) -> NoReturn:
        """Close the round as the daemon would: it would run out of memory again."""
        lesson = learn(self._state_dir, self._config, read_plan(round_folder(self._state_dir, number)))
        ModelStore(self._state_dir).close_round(number, "abandoned", lesson.told())
        raise TrainingFailed(f"Round {number} was abandoned: {lesson.told()}")

    def _look(self, trainer_pid: int) -> None:
        """Enter now and then what the trainer used, and keep what the board feels meanwhile."""
        now = system_clock()
        if now.monotonic < self._looked_at + _LOOK_SECONDS:
            return
        self._looked_at = now.monotonic
        conditions = self._sense(self._used(is_running=True), own_processes=(os.getpid(), trainer_pid))
        self._recorder.note(State.TRAINING, [], conditions, round_number=self.number, step=self._step, now=now)
        self._ledger.save_if_due(now)

    def _used(self, *, is_running: bool) -> Usage:
        return self._ledger.turn(
            system_clock(),
            round_number=self.number if is_running else None,
            limits=self._config.conditions.duty_cycle,
            root=Path(self._config.daemon.sys_root),
        )

    def _sense(self, usage: Usage, *, own_processes: Sequence[int] = ()) -> Conditions:
        config = self._config
        conditions, self._seen = sense(
            Path(config.daemon.sys_root),
            self._state_dir.root,
            now=system_clock(),
            limits=config.conditions,
            before=self._seen,
            own_processes=own_processes,
            usage=usage,
        )
        return conditions
