"""`mmd resume`: end what `mmd pause` began."""

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import DaemonNotRunning


@click.command()
@pass_session
def resume(session: Session) -> None:
    """Let training run again whenever conditions allow."""
    from mmd.supervisor.control import ask
    from mmd.supervisor.hold import release

    try:
        answer = ask(session.state.control_socket, {"request": "resume"})
    except DaemonNotRunning:
        if not release(session.state):
            raise
        print("No daemon is running; training is no longer held when it starts.")
        return
    was = "is no longer held" if answer["was_held"] else "was not held"
    print(f"Training {was} (state: {answer['state']}); `mmd why` tells what else it waits for.")
