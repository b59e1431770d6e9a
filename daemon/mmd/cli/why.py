"""`mmd why`: why does training not run now, and what would change that?"""

import json
from typing import Any

import click

from mmd.cli.answers import ago, current_why
from mmd.cli.main import Session, pass_session


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_session
def why(session: Session, as_json: bool) -> None:
    """Name every reason against training now: since when it holds, and what would clear it."""
    answer, is_daemon = current_why(session)
    if as_json:
        print(json.dumps({**answer, "daemon": is_daemon}))
        return
    for line in why_lines(answer, is_daemon=is_daemon):
        print(line)


def why_lines(answer: dict[str, Any], *, is_daemon: bool) -> list[str]:
    """Return the answer as sentences."""
    reasons, lines = answer["reasons"], []
    if not is_daemon:
        lines.append("No daemon is running: nothing trains until `mmd run` is started.")
        if reasons:
            lines.append("Once it runs, it would wait as well, for these reasons:")
        else:
            lines.append("All conditions hold; it would train at once.")
    elif answer["state"] in ("training", "evaluating"):
        lines.append(f"The daemon is {answer['state']}: all conditions hold.")
    elif not reasons:
        lines.append(f"Nothing is in the way (state: {answer['state']}).")
    else:
        lines.append(f"Training does not run (state: {answer['state']}), for these reasons:")
    for reason in reasons:
        lines.append(f"- {reason['message']} [{reason['code']}, since {ago(reason['since'])}]")
        lines.append(f"  It clears when {reason['clears_when']}.")
    if answer["mode"] == "forced":
        lines.append("You forced this round: conditions are not obeyed.")
        lines += [f"- ignored: {reason['message']} [{reason['code']}]" for reason in answer["overridden"]]
    return lines
