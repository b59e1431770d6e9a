"""`mmd doctor`: what is wrong with this installation, and what to do about it?"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import UsageError

if TYPE_CHECKING:
    from mmd.supervisor.doctor import Examined, Patient


@click.command(short_help="Look for what keeps training from working.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_session
def doctor(session: Session, as_json: bool) -> int:
    """Look for what keeps training from working or is less safe than it should be, and say what to do.

    Changes nothing. Checks that could not be made are named with the reason. Exit code 0: no problem was found (notes
    do not count); 1: there are problems.
    """
    from mmd.supervisor.doctor import Severity, examine

    found = examine(_patient(session))
    findings = [finding for each in found.values() for finding in each.findings]
    problems = [finding for finding in findings if finding.severity is Severity.PROBLEM]
    if as_json:
        answer = {
            "healthy": not problems,
            "findings": [asdict(each) for each in findings],
            "checks": list(found),
            "not_made": {name: each.unseen for name, each in found.items() if each.unseen is not None},
        }
        print(json.dumps(answer, indent=2))
    else:
        _tell(found, len(problems))
    return 1 if problems else 0


def _patient(session: Session) -> "Patient":
    from mmd.conditions import sense
    from mmd.conditions.reading import system_clock
    from mmd.config import Config
    from mmd.supervisor.doctor import Patient

    error = None
    try:
        config = session.config
    except UsageError as refused:
        config, error = Config(), str(refused)
    now = system_clock()
    root = session.state.root
    folder = next(folder for folder in (root, *root.parents) if os.access(folder, os.F_OK))
    conditions, _ = sense(Path(config.daemon.sys_root), folder, now=now, limits=config.conditions)
    return Patient(session.state, config, error, conditions, now, root=Path(config.daemon.sys_root))


def _tell(found: "dict[str, Examined]", problems: int) -> None:
    for each in found.values():
        for finding in each.findings:
            print(f"{finding.severity.value}: {finding.message} [{finding.code}]")
            print(f"  {finding.remedy}")
    fine = [name for name, each in found.items() if not each.findings and each.unseen is None]
    print(f"Fine: {', '.join(fine)}.")
    unseen: dict[str, list[str]] = {}
    for name, each in found.items():
        if each.unseen is not None:
            unseen.setdefault(each.unseen, []).append(name)
    for why, names in unseen.items():
        print(f"Could not look at: {', '.join(names)} ({why}).")
    verdict = f"{problems} problem{'' if problems == 1 else 's'} found" if problems else "No problem found"
    print(f"{verdict} in what could be looked at." if unseen else f"{verdict}.")
