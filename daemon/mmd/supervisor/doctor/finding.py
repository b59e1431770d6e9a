"""What is a finding, what does a check look at, and what when it may not?"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmd.conditions import Conditions, Instant
from mmd.config import Config
from mmd.layout import StateDir


class Severity(StrEnum):
    PROBLEM = "problem"
    """Something does not work, or is less safe than it should be."""
    NOTE = "note"
    """Worth knowing; it may be meant so."""


@dataclass(frozen=True)
class Finding:
    code: str
    """Stable."""
    severity: Severity
    message: str
    remedy: str
    """What to do, as a sentence."""


@dataclass(frozen=True)
class Patient:
    """Everything that the checks look at."""

    state: StateDir
    config: Config
    """The defaults when the configuration is refused."""
    config_error: str | None
    conditions: Conditions
    now: Instant
    root: Path = Path("/")
    """Where `etc/` and `run/` are looked for."""


@dataclass(frozen=True)
class Examined:
    """What came of one check."""

    findings: list[Finding]
    unseen: str | None
    """Why not everything could be looked at."""


class Unseen(Exception):
    """Something cannot be looked at; `str()` says why, without a full stop."""


Check = Callable[[Patient], Iterator[Finding]]


def see(path: Path, *, with_all_in_it: bool = False) -> None:
    """Raise `Unseen` where this user may not read `path`. What is not there is no obstacle."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        raise Unseen(f"this user may not look into {path.parent}") from None
    except OSError:
        return
    if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK):
        raise Unseen(f"this user may not {'look into' if is_folder else 'read'} {path}")
    if is_folder and with_all_in_it:
        for inner in path.iterdir():
            see(inner, with_all_in_it=True)


def problem(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.PROBLEM, message, remedy)


def note(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.NOTE, message, remedy)
