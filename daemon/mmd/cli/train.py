"""`mmd train`: a round now, and what came of it."""

import json
import math
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mmd.cli.main import Session, pass_session
from mmd.errors import DaemonNotRunning, MmdError, StoreDamaged, TrainingFailed

if TYPE_CHECKING:
    from mmd.cli.progress import Progress
    from mmd.config import Config
    from mmd.layout import StateDir
    from mmd.promotion.outcome import RoundOutcome
    from mmd.training.plan import RoundPlan

_LOOK_SECONDS = 0.2
_ASK_SECONDS = 1.0


@click.command(short_help="Run a round of training now, or finish the open one.")
@click.option("--force", is_flag=True, help="Whatever the policy says: on battery, in use, with few samples.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_session
def train(session: Session, force: bool, as_json: bool) -> None:
    """Run a round of training now, or finish the open one, and say whether the model got better.

    A running daemon is asked to do it and its progress is shown; without one this command does it itself. Ctrl-C lets
    the round stay open at a checkpoint: the next `mmd train` or `mmd run` goes on there.
    """
    from mmd.cli.progress import shown_progress

    state = session.initialised_state()
    with shown_progress() as progress:
        try:
            outcome = _with_daemon(state, progress, force=force)
        except DaemonNotRunning:
            outcome = _alone(state, session.config, progress, force=force)
    _report(state, outcome, as_json=as_json)


def _with_daemon(state: "StateDir", progress: "Progress", *, force: bool) -> "RoundOutcome":
    """Ask the daemon for a round and follow it on disk. Raises `DaemonNotRunning` when there is none to ask."""
    import time

    from mmd.layout import round_folder
    from mmd.promotion.outcome import read_outcome
    from mmd.supervisor.control import ask
    from mmd.supervisor.progress import open_round
    from mmd.training.plan import next_round_number, read_plan, read_progress

    number = open_round(state) or next_round_number(state)
    ask(state.control_socket, {"request": "train", "force": force})
    folder = round_folder(state, number)
    asked_at, status = -math.inf, {}
    while (outcome := read_outcome(folder)) is None:
        if time.monotonic() > asked_at + _ASK_SECONDS:
            asked_at, status = time.monotonic(), _daemon_status(state)
            if (outcome := read_outcome(folder)) is not None:
                return outcome  # what the daemon waits for now is the next round
            _refuse_if_waiting(status, force=force)
        with suppress(StoreDamaged):  # the round has not begun yet, or one of its samples is being forgotten
            done = read_progress(folder, read_plan(folder))
            progress.show(number, done.step, done.steps, done.loss, note=_note(status))
        time.sleep(_LOOK_SECONDS)
    return outcome


def _daemon_status(state: "StateDir") -> dict[str, Any]:
    from mmd.supervisor.control import ask

    try:
        status: dict[str, Any] = ask(state.control_socket, {"request": "status"})["status"]
        return status
    except DaemonNotRunning as error:
        # Not the same: the round was begun, and this command must not begin another.
        raise MmdError(f"{error} The round stays open; `mmd train` goes on with it.") from error


def _refuse_if_waiting(status: dict[str, Any], *, force: bool) -> None:
    reasons = status.get("reasons") or []
    if status.get("state") in ("idle", "waiting") and reasons:
        raise _not_now(str(reasons[0]["message"]), str(reasons[0]["clears_when"]), force=force)


def _not_now(message: str, clears_when: str, *, force: bool = False) -> MmdError:
    """Return the refusal in one line; `force` is what the owner gave already."""
    advice = "." if force else "; --force trains all the same."
    return MmdError(f"Not now: {message.rstrip('.')}. It clears when {clears_when}{advice}")


def _note(status: dict[str, Any]) -> str:
    reasons = status.get("reasons") or []
    state = str(status.get("state", ""))
    return f"{state}: {reasons[0]['message']}" if reasons and state == "suspended" else state


def _alone(state: "StateDir", config: "Config", progress: "Progress", *, force: bool) -> "RoundOutcome":
    """Run the trainer child from here, as the daemon would, and act on its verdict."""
    from mmd.samples.store import SampleStore
    from mmd.supervisor.alone import LoneRound
    from mmd.supervisor.lock import DaemonLock

    parts: list[tuple[int, str]] = []

    def on_plan(plan: "RoundPlan") -> None:
        parts[:] = parts_of(plan)
        progress.show(plan.number, 0, plan.steps_in_all, None, note="starting")

    with DaemonLock(state.lock_file), SampleStore(state.samples_db) as store, LoneRound(state, config) as lone:
        if not force:
            for reason in lone.reasons(store.counts()):
                raise _not_now(reason.message, reason.clears_when)
        lost = lone.review()
        if lost is not None:
            click.echo(f"mmd: generation {lost.generation} was taken back. {lost.reason}", err=True)
        try:
            return lone.run(store, on_plan, lambda event: _show_event(event, lone.number or 0, parts, progress))
        except KeyboardInterrupt:
            if lone.number is not None:
                click.echo(f"mmd: round {lone.number} stays open; `mmd train` or `mmd run` goes on with it.", err=True)
            raise


def parts_of(plan: "RoundPlan") -> list[tuple[int, str]]:
    """Return up to which step what is trained: the loss begins anew with each model."""
    names = [f"fold model {place} of {len(plan.fold_steps)}" for place in range(1, len(plan.fold_steps) + 1)]
    return list(zip(accumulate((*plan.fold_steps, plan.steps)), (*names, "candidate"), strict=True))


def _show_event(event: dict[str, Any], number: int, parts: list[tuple[int, str]], progress: "Progress") -> None:
    kind = event["event"]
    if kind == "step":
        step = int(event["step"])
        note = next((name for end, name in parts if step <= end), "training")
        progress.show(number, step, int(event["steps"]), float(event["loss"]), note=note)
    elif kind in ("preparing", "evaluating"):
        progress.note({"preparing": "preparing", "evaluating": "before the gate"}[kind])
    elif kind == "notice":
        progress.say(str(event["message"]))


def _report(state: "StateDir", outcome: "RoundOutcome", *, as_json: bool) -> None:
    from mmd.layout import round_folder
    from mmd.promotion.outcome import read_verdict

    if as_json:
        verdict = read_verdict(round_folder(state, outcome.round))
        print(json.dumps({**msgspec.to_builtins(outcome), "verdict": msgspec.to_builtins(verdict)}, indent=2))
    elif outcome.outcome == "promoted":
        print(f"{outcome.reason} Generation {outcome.generation} serves now.")
    elif outcome.outcome == "rejected":
        print(f"{outcome.reason} The serving model stays.")
    if outcome.outcome in ("failed", "abandoned"):
        raise TrainingFailed(f"Round {outcome.round} was {outcome.outcome}: {outcome.reason}")
