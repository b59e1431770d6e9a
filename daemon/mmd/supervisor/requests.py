"""What does the daemon answer to each request on the control socket?"""

from collections.abc import Callable
from typing import Any, Protocol

from mmd.conditions import Conditions, Usage
from mmd.config import Config
from mmd.errors import UsageError
from mmd.layout import StateDir
from mmd.policy import Mode, Reason
from mmd.samples.records import SampleCounts
from mmd.supervisor.accounts import Cost
from mmd.supervisor.control import Answer
from mmd.supervisor.hold import hold, release
from mmd.supervisor.round_runner import RoundRunner
from mmd.supervisor.view import memory_view, status_view, taken_back, why_view


class Desk(Protocol):
    """What the answers need from the daemon."""

    @property
    def state_dir(self) -> StateDir: ...
    @property
    def config(self) -> Config: ...
    @property
    def runner(self) -> RoundRunner: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def reasons(self) -> list[Reason]: ...

    def look(self) -> Conditions:
        """Look at the board now, decide and act."""
        ...

    @property
    def usage(self) -> Usage: ...
    def counts(self) -> SampleCounts: ...

    def cost(self) -> Cost:
        """Return what the open round used so far."""
        ...

    def overridden(self, conditions: Conditions) -> list[Reason]:
        """Return the reasons that the present mode ignores."""
        ...

    def force(self, *, is_forced: bool) -> None:
        """Enter or leave the forced mode."""
        ...

    def expect_no_more_samples(self) -> None: ...


class Requests:
    """Answers for one daemon."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._table: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "status": self._status,
            "why": self._why,
            "pause": self._pause,
            "resume": self._resume,
            "train": self._train,
        }

    def answer(self, request: dict[str, Any]) -> Answer:
        """Answer one request. Raises `UsageError` for one that is not known or cannot be met."""
        name = request.get("request")
        if not isinstance(name, str) or name not in self._table:
            known = ", ".join(self._table)
            raise UsageError(f"The daemon does not know the request {str(name)[:40]!r}; it knows {known}.")
        return self._table[name](request)

    def _status(self, request: dict[str, Any]) -> Answer:
        desk = self._desk
        conditions = desk.look()
        status = status_view(
            desk.state_dir,
            desk.config,
            state=desk.runner.state,
            mode=desk.mode,
            reasons=desk.reasons,
            conditions=conditions,
            counts=desk.counts(),
            progress=desk.runner.progress,
            cost=desk.cost(),
            usage=desk.usage,
            is_daemon=True,
        )
        return {"status": status}

    def _why(self, request: dict[str, Any]) -> Answer:
        desk = self._desk
        ignored = desk.overridden(desk.look())
        return {"why": self._reasons(ignored)}

    def _reasons(self, ignored: list[Reason]) -> Answer:
        desk = self._desk
        memory, lost = memory_view(desk.state_dir, desk.config), taken_back(desk.state_dir)
        return why_view(desk.runner.state, desk.mode, desk.reasons, ignored, memory=memory, lost=lost)

    def _pause(self, request: dict[str, Any]) -> Answer:
        was_held = hold(self._desk.state_dir)
        self._desk.force(is_forced=False)
        self._desk.look()
        return {"state": self._desk.runner.state.value, "was_held": was_held}

    def _resume(self, request: dict[str, Any]) -> Answer:
        was_held = release(self._desk.state_dir)
        self._desk.look()
        return {"state": self._desk.runner.state.value, "was_held": was_held}

    def _train(self, request: dict[str, Any]) -> Answer:
        """Begin a round now, if the policy allows; with `force`, whatever the policy says."""
        desk = self._desk
        if request.get("force"):
            if not desk.state_dir.is_initialised:
                raise UsageError("No artifact set is installed; run `mmd init` first.")
            if desk.counts().trainable == 0 and desk.runner.progress is None:
                raise UsageError("There is no sample to train on; add some with `mmd ingest`.")
            desk.force(is_forced=True)
            release(desk.state_dir)
        desk.expect_no_more_samples()  # whoever asks for a round knows what they have put in
        desk.look()
        return self._reasons([])
