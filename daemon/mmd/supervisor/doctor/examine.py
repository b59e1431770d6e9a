"""Which checks are there, in which order?"""

from mmd.supervisor.doctor import board, software, state
from mmd.supervisor.doctor.finding import Check, Examined, Finding, Patient, Unseen

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


def examine(patient: Patient) -> dict[str, Examined]:
    """Run every check; return what came of it by its name."""
    return {name: _examined(check, patient) for name, check in CHECKS.items()}


def _examined(check: Check, patient: Patient) -> Examined:
    """Keep what was found before the check came upon something that it may not look at."""
    findings: list[Finding] = []
    try:
        for finding in check(patient):
            findings.append(finding)  # noqa: PERF402 (one by one: extend() promises nothing of those before an obstacle)
    except Unseen as obstacle:
        return Examined(findings, str(obstacle))
    except PermissionError as error:
        return Examined(findings, f"this user may not read {error.filename}")
    return Examined(findings, None)
