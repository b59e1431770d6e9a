"""What does the trainer child do? It runs one round to its verdict, and can be stopped or killed at any instant.

`python -m mmd.supervisor.trainer --state-dir D --round N` writes one JSON object a line on standard output:
`{"event": "preparing"}`, `{"event": "decided", "message": ...}` (how the Mentor is heard),
`{"event": "step", "step": i, "steps": n, "loss": x}`, `{"event": "notice", "message": ...}`,
`{"event": "evaluating"}`, `{"event": "verdict", ...}`, `{"event": "stopped", "step": i}`,
`{"event": "abandoned", "message": ...}`, `{"event": "failed", "message": ..., "out_of_memory": bool}`.
SIGTERM: it makes a checkpoint and leaves with exit code 0; the round stays open. It promotes nothing: that is
`mmd.supervisor.rounds.finish_round`.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mmd.errors import MmdError, StoreDamaged, TrainingFailed, is_out_of_memory
from mmd.layout import StateDir, round_folder

if TYPE_CHECKING:
    from mmd.supervisor.workshop import OpenEngine

_LOCK_PATIENCE_SECONDS = 20.0
_LOCK_LOOK_SECONDS = 0.05


class Voice:
    """Says what happens, one JSON object a line; learns that nobody listens any more."""

    def __init__(self) -> None:
        self.is_heard = True

    def __call__(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except BrokenPipeError:
            # The supervisor died. What is left to say goes nowhere, so that the exit does not fail on it.
            self.is_heard = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Departure:
    """Turns SIGTERM into a clean exit: at once, or after a checkpoint while steps are being taken."""

    def __init__(self) -> None:
        self.is_asked = False
        self.is_stepping = False

    def watch(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.ask())

    def ask(self) -> None:
        self.is_asked = True
        if not self.is_stepping:
            # Everything on disk is whole at every instant, and there is no step to save.
            os._exit(0)


def train(state: StateDir, number: int, say: Voice, departure: Departure, *, open_engine: "OpenEngine") -> None:
    """Run round `number` to its verdict, from wherever it was left.

    Raises `TrainingFailed` after closing the round when it cannot be trained; other `MmdError`s leave it open.
    """
    from mmd.supervisor.workshop import Abandoned, RoundWorkshop
    from mmd.training.round import Listener, RoundEnd

    workshop = RoundWorkshop(state, number)
    if workshop.is_closed:
        return
    judged = workshop.verdict()
    if judged is not None:
        _tell(say, judged)
        return
    plan = workshop.plan()

    def on_step(step: int, loss: float) -> None:
        say("step", step=step, steps=plan.steps_in_all, loss=loss)

    def should_stop() -> bool:
        return departure.is_asked or not say.is_heard or workshop.is_closed

    def on_decision(text: str) -> None:
        say("decided", message=text)

    def on_notice(text: str) -> None:
        say("notice", message=text)

    try:
        say("preparing")
        with closing(workshop.prepare(plan, open_engine, on_decision=on_decision)) as prepared:
            departure.is_stepping = True
            end = prepared.run(Listener(on_step=on_step, on_notice=on_notice, should_stop=should_stop))
            departure.is_stepping = False
            if should_stop() and not workshop.is_closed:
                say("stopped", step=prepared.step)
                return
            if end is RoundEnd.FINISHED:
                say("evaluating")
                _tell(say, workshop.judge(plan, prepared))
    except Abandoned as reason:
        workshop.abandon(str(reason))
    except TrainingFailed as error:
        workshop.fail(plan, str(error))
        raise
    except (OSError, StoreDamaged):
        # A round that was closed meanwhile lost a sample, or its folders under a checkpoint that was being written.
        if not workshop.is_closed:
            raise
    outcome = workshop.clear_if_closed()
    if outcome is not None:
        say("abandoned", message=outcome.reason)


def _tell(say: Voice, verdict: msgspec.Struct) -> None:
    say("verdict", **msgspec.to_builtins(verdict))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second trainer off this round; wait a little for one that is dying."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        patience = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while not _is_locked(descriptor):
            if time.monotonic() > patience:
                raise MmdError(
                    f"Another trainer is at work on round {folder.name}; wait for it, or end that process first."
                )
            time.sleep(_LOCK_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main(arguments: Sequence[str] | None = None, *, open_engine: "OpenEngine | None" = None) -> int:
    """Run the child and return its exit code."""
    parser = argparse.ArgumentParser(prog="mmd.supervisor.trainer")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--round", type=int, required=True)
    options = parser.parse_args(arguments)
    say, departure = Voice(), Departure()
    departure.watch()
    state = StateDir(options.state_dir.absolute())
    try:
        folder = round_folder(state, options.round)
        if not folder.is_dir():
            raise StoreDamaged(f"There is no round {options.round} in {state.rounds}.")
        with _alone(folder):
            train(state, options.round, say, departure, open_engine=open_engine or _engine_opener())
    except MmdError as error:
        say("failed", message=str(error), out_of_memory=is_out_of_memory(error))
        return error.exit_code
    except Exception as error:  # only to tell the want of memory, for which the runtime has no class
        if not is_out_of_memory(error):
            raise
        say("failed", message=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", out_of_memory=True)
        return 1
    return 0


def _engine_opener() -> "Callable[..., Any]":
    from mmd.training.engines import open_engine

    return open_engine


if __name__ == "__main__":
    sys.exit(main())
