"""`mmd run`: the daemon."""

import logging
import os
import sys

import click

from mmd.cli.main import Session, pass_session


@click.command()
@click.option(
    "--foreground", is_flag=True, help="Stay in the foreground; there is no other way, systemd does the rest."
)
@pass_session
def run(session: Session, foreground: bool) -> None:
    """Watch the board and train in the background whenever conditions allow.

    Runs until SIGTERM or Ctrl-C. SIGHUP reads the configuration again. The log on stderr has one line a change of
    state.
    """
    from mmd.config import Config, load_config
    from mmd.supervisor.daemon import Daemon

    _log_to_stderr()

    def load() -> Config:
        return load_config(session.config_path)

    Daemon(session.state, load, config_file=session.config_path).run()


def _log_to_stderr() -> None:
    # The journal has its own clock.
    style = "mmd: %(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s mmd: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=style, datefmt="%H:%M:%S")
