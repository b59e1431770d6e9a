"""How do the reading commands get their answer: from the running daemon, or from the state folder without one?"""

import time
from typing import Any

from mmd.cli.main import Session
from mmd.errors import DaemonNotRunning

Json = dict[str, Any]


def status_and_why(session: Session) -> tuple[Json, Json]:
    """Return what `status` and `why` say without a daemon."""
    from mmd.supervisor.offline import offline_view

    return offline_view(session.state, session.config)


def current_status(session: Session) -> Json:
    """Return the status; `daemon` is `None` in it when none runs."""
    from mmd.supervisor.client import ask

    try:
        status: Json = ask(session.state.control_socket, {"request": "status"})["status"]
    except DaemonNotRunning:
        status, _ = status_and_why(session)
    return status


def current_why(session: Session) -> tuple[Json, bool]:
    """Return the reasons, and whether a daemon gave them."""
    from mmd.supervisor.client import ask

    try:
        why: Json = ask(session.state.control_socket, {"request": "why"})["why"]
    except DaemonNotRunning:
        _, why = status_and_why(session)
        return why, False
    return why, True


def ago(since: float, *, now: float | None = None) -> str:
    """Say how long ago a wall time was: `12 s`, `5 min`, `3.2 h`, `4 days`."""
    seconds = max(0.0, (time.time() if now is None else now) - since)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"
