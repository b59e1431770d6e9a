"""Who may change which model serves? One at a time: the daemon that promotes, the owner who rolls back or forgets.

A lock of the state folder that the kernel drops when its holder dies, so no crash leaves it taken.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from mmd.errors import ModelsBusy
from mmd.layout import StateDir

PATIENCE_SECONDS = 5.0
"""Putting a model in place takes less than one; the daemon's watchdog would take it for hung after thirty."""
_LOOK_SECONDS = 0.02


class _OfAState(Protocol):
    state: StateDir


_Store = TypeVar("_Store", bound=_OfAState)
_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def in_turn(change: Callable[Concatenate[_Store, _Given], _Found]) -> Callable[Concatenate[_Store, _Given], _Found]:
    """Have a method wait for its turn. One that does so calls no other one that does."""

    @wraps(change)
    def alone(store: _Store, /, *given: _Given.args, **named: _Given.kwargs) -> _Found:
        with turn(store.state, patience_seconds=PATIENCE_SECONDS):
            return change(store, *given, **named)

    return alone


@contextmanager
def turn(state: StateDir, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Keep everybody else from changing which model serves. Raises `ModelsBusy` when somebody does so for too long."""
    folder = os.open(state.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience_seconds
        while not _is_taken(folder):
            if time.monotonic() >= deadline:
                raise ModelsBusy(f"Another command is changing the models in {state.root}; try again when it is done.")
            time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(folder)


def _is_taken(folder: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
