"""`mmd status`: what does the daemon do, why, with what samples, and which model serves?"""

import json
import sys

import click

from mmd.cli.answers import current_status
from mmd.cli.main import Session, pass_session


@click.command(short_help="Show state, reasons, samples, round and model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--all", "every_condition", is_flag=True, help="Show conditions without a limit or a sensor too.")
@click.option("--watch", is_flag=True, help="Show it live, with the losses of the open round, until Ctrl-C.")
@pass_session
def status(session: Session, as_json: bool, every_condition: bool, watch: bool) -> None:
    """Show state, reasons, conditions, samples, the round and the model. Works without a daemon too."""
    if watch:
        from mmd.cli.watch import watch_status

        watch_status(session, as_json=as_json)
    elif as_json:
        print(json.dumps(current_status(session)), flush=True)
    else:
        from mmd.cli.status_lines import status_lines, terminal_width

        width = terminal_width(sys.stdout)
        click.echo("\n".join(status_lines(current_status(session), width=width, every_condition=every_condition)))
