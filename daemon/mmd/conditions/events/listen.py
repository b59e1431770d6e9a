"""Which sources of events does this machine have, and what do they add to the next look?

A source that is missing, or that dies, is said once in the log; the poll carries on without it.
"""

import logging
import os
import selectors
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mmd.conditions.events.memory_watch import MemoryWatch, watched_path, words_to_write
from mmd.conditions.events.pressure_trigger import PressureTrigger
from mmd.conditions.events.source import Source, Unavailable
from mmd.conditions.events.system_bus import SystemBus
from mmd.conditions.events.uevents import Uevents
from mmd.conditions.user_idle import Session
from mmd.limits import ConditionsConfig

REAL_ROOT = Path("/")
_NEVER_PASSED, _BEYOND = 100.0, 0.001
log = logging.getLogger(__name__)


def openers(
    root: Path, limits: ConditionsConfig, environment: Mapping[str, str] = os.environ
) -> dict[str, Callable[[], Source]]:
    """Return how each source is opened. A root that stands in for the machine has none but the service manager's."""
    found = _sources_of_the_machine(root, limits) if root == REAL_ROOT else {}
    path, stop_percent = watched_path(environment), limits.memory_pressure.stop_percent
    if path is not None and stop_percent < _NEVER_PASSED:
        beyond = min(stop_percent + _BEYOND, _NEVER_PASSED)
        found[MemoryWatch.name] = lambda: MemoryWatch(path, words_to_write(environment), beyond)
    return found


def _sources_of_the_machine(root: Path, limits: ConditionsConfig) -> dict[str, Callable[[], Source]]:
    stop_percents = {
        "cpu": limits.cpu_pressure.stop_percent,
        "memory": limits.memory_pressure.stop_percent,
        "io": limits.io_pressure.stop_percent,
    }
    found: dict[str, Callable[[], Source]] = {"uevents": Uevents, "system bus": SystemBus}
    for resource, percent in stop_percents.items():
        found[f"{resource} pressure trigger"] = partial(PressureTrigger, root, resource, percent)
    return found


class Events:
    """Wakes the daemon's loop when something may have changed."""

    def __init__(self, selector: selectors.BaseSelector, look_soon: Callable[[], None]) -> None:
        """The callbacks of the selector's keys are called by the loop; they call `look_soon`."""
        self._selector = selector
        self._look_soon = look_soon
        self._sources: dict[str, Source] = {}
        self._said: set[str] = set()
        self._alarms: dict[str, float] = {}

    def listen(self, wanted: Mapping[str, Callable[[], Source]]) -> None:
        """Open every source that there is, in place of those that were open."""
        self.close()
        for name, opener in wanted.items():
            try:
                source = opener()
            except Unavailable as reason:
                self._say(f"no {name}: {reason}")
                continue
            self._sources[name] = source
            self._selector.register(source.fileno(), selectors.EVENT_READ, partial(self._take, source))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources that are listened to."""
        return tuple(self._sources)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Whose user logind tells of; none without it."""
        bus = self._sources.get("system bus")
        return bus.sessions if isinstance(bus, SystemBus) else ()

    def take_alarms(self) -> Mapping[str, float]:
        """Return the resources that were told to be short since the last look, with the share of time in percent."""
        alarms, self._alarms = self._alarms, {}
        return alarms

    def close(self) -> None:
        for source in list(self._sources.values()):
            self._drop(source)

    def _take(self, source: Source) -> None:
        try:
            is_due = source.take()
        except OSError as error:
            self._drop(source)
            self._say(f"the {source.name} is gone: {error.strerror or error}")
            is_due = True
        if isinstance(source, PressureTrigger | MemoryWatch):
            self._alarms[source.resource] = source.percent
        if is_due:
            self._look_soon()

    def _drop(self, source: Source) -> None:
        self._selector.unregister(source.fileno())
        source.close()
        del self._sources[source.name]

    def _say(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            log.info("%s; the poll goes on without it", words)
