"""`mmd run`: the daemon."""

import logging
import os
import sys
from pathlib import Path

import click

from mmd.cli.main import Session, pass_session


@click.command(short_help="Be the daemon: train whenever conditions allow.")
@click.option(
    "--foreground", is_flag=True, help="Stay in the foreground; there is no other way, systemd does the rest."
)
@click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), help="Write what is sensed here, for `mmd replay`."
)
@pass_session
def run(session: Session, foreground: bool, record: Path | None) -> None:
    """Watch the board and train in the background whenever conditions allow.

    Runs until SIGTERM, Ctrl-C or the end of its terminal (not under nohup). SIGHUP reads the configuration again. The
    log on stderr has one line a change of state.
    """
    from mmd.config import Config, load_config
    from mmd.supervisor.daemon import Daemon

    _begin_log()

    def load() -> Config:
        return load_config(session.config_path)

    Daemon(session.state, load, config_file=session.config_path, record=record).run()


def _begin_log() -> None:
    if "JOURNAL_STREAM" in os.environ:
        from mmd.supervisor.journal import JournalHandler, journal_socket

        logging.basicConfig(handlers=[JournalHandler(journal_socket())], level=logging.INFO, format="%(message)s")
        return
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s mmd: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
