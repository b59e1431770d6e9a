"""Which checks are there, in which order?"""

from mmd.supervisor.doctor import board, software, state
from mmd.supervisor.doctor.finding import Check, Finding, Patient

CHECKS: dict[str, Check] = {
    "configuration": software.configuration,
    "initialised": state.initialised,
    "permissions": state.permissions,
    "artifact set": state.artifact_set,
    "sample store": state.sample_store,
    "models": state.models,
    "history": state.history,
    "engine": software.engine,
    "service": software.service,
    "daemon": state.daemon,
    "server": state.server,
    "battery": board.battery,
    "idle": board.idle,
    "sensors": board.sensors,
    "events": board.events,
    "memory": board.memory,
    "trainer memory": board.trainer_memory,
    "disk": board.disk,
    "clock": board.clock,
}


def examine(patient: Patient) -> dict[str, list[Finding]]:
    """Run every check; return its findings by its name."""
    return {name: list(check(patient)) for name, check in CHECKS.items()}
