"""What do `mmd status` and `mmd why` say while no daemon runs? The same judgement, by the same policy."""

from pathlib import Path

from mmd.conditions import Instant, sense
from mmd.conditions.reading import system_clock
from mmd.config import Config
from mmd.errors import MmdError, StoreDamaged
from mmd.layout import StateDir
from mmd.policy import Facts, Mode, Tracker, decide, look
from mmd.policy.decide import has_work
from mmd.samples.counts import count_samples
from mmd.supervisor.accounts import Cost, round_cost, saved_usage
from mmd.supervisor.history import open_history
from mmd.supervisor.hold import held_since
from mmd.supervisor.lock import holder
from mmd.supervisor.progress import Progress, has_trained, last_end, open_round, progress_on_disk
from mmd.supervisor.states import State
from mmd.supervisor.view import Json, status_view, taken_back, why_view


def offline_view(state_dir: StateDir, config: Config) -> tuple[Json, Json]:
    """Return what status and why say when no daemon runs: the store as it lies there, the board as it is now."""
    now = system_clock()
    usage = saved_usage(state_dir, now)
    conditions, _ = sense(Path(config.daemon.sys_root), state_dir.root, now=now, limits=config.conditions, usage=usage)
    counts = count_samples(state_dir.samples_db)
    progress, is_round_open = _open_progress(state_dir)
    round_ended, failed_rounds = last_end(state_dir, now)
    facts = Facts(
        has_artifact_set=state_dir.is_initialised,
        is_round_open=is_round_open,
        trainable=counts.trainable,
        new=counts.new,
        has_trained=has_trained(state_dir),
        held_since=held_since(state_dir),
        round_ended=round_ended,
        failed_rounds=failed_rounds,
        stopped_since=stopped_since(state_dir, now),
        holder=holder(state_dir.lock_file),
    )
    tracker = look(Tracker(), conditions, config.conditions)
    reasons = decide(conditions, facts, config, tracker=tracker, mode=Mode.AUTO, now=now)
    resting = State.WAITING if has_work(reasons) else State.IDLE
    state = State.SUSPENDED if is_round_open else resting
    status = status_view(
        state_dir,
        config,
        state=state,
        mode=Mode.AUTO,
        reasons=reasons,
        conditions=conditions,
        counts=counts,
        progress=progress,
        cost=Cost() if progress is None else round_cost(state_dir, progress.number),
        usage=usage,
        is_daemon=False,
    )
    return status, why_view(state, Mode.AUTO, reasons, [], memory=status["memory"], lost=taken_back(state_dir))


def _open_progress(state_dir: StateDir) -> tuple[Progress | None, bool]:
    """Return how far the open round is, where its plan tells, and whether there is one."""
    number = open_round(state_dir)
    if number is None:
        return None, False
    try:
        return progress_on_disk(state_dir, number), True
    except StoreDamaged:
        return None, True


def stopped_since(state_dir: StateDir, now: Instant) -> float:
    """Return since when (seconds since 1970) no daemon runs, by its history: now, where there is none."""
    try:
        history = open_history(state_dir.history_db)
        if history is None:
            return now.wall
        with history:
            return min(history.last_sign_of_life() or now.wall, now.wall)
    except MmdError:
        return now.wall
