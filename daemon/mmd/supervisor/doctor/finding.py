"""What is a finding, and what does a check look at?"""

import os
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

    @property
    def is_hidden(self) -> bool:
        """Whether this user may not look into the state folder; the check of permissions says whose it is."""
        root = self.state.root
        return root.exists() and not os.access(root, os.R_OK | os.X_OK)


Check = Callable[[Patient], Iterator[Finding]]


def problem(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.PROBLEM, message, remedy)


def note(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.NOTE, message, remedy)
