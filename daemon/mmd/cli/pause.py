"""`mmd pause`: hold training, across restarts, until `mmd resume`."""

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import DaemonNotRunning


@click.command()
@pass_session
def pause(session: Session) -> None:
    """Hold training until `mmd resume`, also across restarts. A round in progress is kept."""
    from mmd.supervisor.control import ask
    from mmd.supervisor.hold import hold

    try:
        answer = ask(session.state.control_socket, {"request": "pause"})
    except DaemonNotRunning:
        hold(session.state)
        print("No daemon is running; training stays held when it starts, until `mmd resume`.")
        return
    was = "was held already" if answer["was_held"] else "is held now"
    print(f"Training {was} (state: {answer['state']}), until `mmd resume`.")
