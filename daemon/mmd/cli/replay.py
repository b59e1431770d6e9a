"""`mmd replay`: what would the policy do on a recorded day?"""

import json
from dataclasses import asdict
from pathlib import Path

import click

from mmd.cli.main import Session, pass_session


@click.command(short_help="Show when a recorded day would have trained.")
@click.argument("trace", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_session
def replay(session: Session, trace: Path, as_json: bool) -> None:
    """Run the policy, as configured, over what `mmd run --record TRACE` wrote, and print when training would run.

    It pretends that there is always work. Give another --config to see what other limits would have done.
    """
    from mmd.supervisor.trace import read_trace
    from mmd.supervisor.trace import replay as replayed

    for change in replayed(read_trace(trace), session.config):
        if as_json:
            print(json.dumps(asdict(change)))
        else:
            print(" ".join([_clock(change.at), f"{change.state.value:<9}", *change.reasons]).rstrip())


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}"
