"""Who is told what the daemon does? The history, the log, and the service manager: each change once."""

import logging
from collections.abc import Sequence

from mmd.conditions import Conditions, Instant
from mmd.policy import Mode, Reason
from mmd.supervisor.journal import STATE_CHANGED
from mmd.supervisor.notify import Notifier
from mmd.supervisor.progress import Progress
from mmd.supervisor.record import Recorder
from mmd.supervisor.states import State

log = logging.getLogger(__name__)


class Announcer:
    """Tells the rest of the world what changed since the last look."""

    def __init__(self, recorder: Recorder, notifier: Notifier) -> None:
        self._recorder = recorder
        self._notifier = notifier
        self._told: tuple[State, tuple[str, ...], Mode] | None = None
        self._problems: tuple[str, ...] = ()

    def note(
        self,
        state: State,
        mode: Mode,
        reasons: Sequence[Reason],
        conditions: Conditions,
        progress: Progress | None,
        now: Instant,
    ) -> None:
        """Keep, log and announce one look."""
        number, step = (None, None) if progress is None else (progress.number, progress.step)
        self._recorder.note(state, reasons, conditions, round_number=number, step=step, now=now)
        codes = tuple(reason.code.value for reason in reasons)
        if (state, codes, mode) != self._told:
            self._told = state, codes, mode
            said = summary(state, mode, reasons, progress)
            fields = {
                "STATE": state.value,
                "MODE": mode.value,
                "REASONS": " ".join(codes),
                "ROUND": number,
                "STEP": step,
            }
            log.info("%s", said, extra={"message_id": STATE_CHANGED, "fields": fields})
            self._notifier.status(said)
        for problem in set(conditions.problems()) - set(self._problems):
            log.warning("%s; it is ignored", problem)
        self._problems = conditions.problems()


def summary(state: State, mode: Mode, reasons: Sequence[Reason], progress: Progress | None) -> str:
    """Say the state in one line: `state=suspended reason=on_battery round=3 step=412`."""
    words = [f"state={state}"]
    if mode is not Mode.AUTO:
        words.append(f"mode={mode}")
    words += [f"reason={reason.code}" for reason in reasons]
    if progress is not None:
        words += [f"round={progress.number}", f"step={progress.step}"]
    return " ".join(words)
