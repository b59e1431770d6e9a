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

    Runs until SIGTERM or Ctrl-C. SIGHUP reads the configuration again. The log on stderr has one line a change of
    state.
    """
    from mmd.config import Config, load_config
    from mmd.supervisor.daemon import Daemon

    _log_to_stderr()

    def load() -> Config:
        return load_config(session.config_path)

    Daemon(session.state, load, config_file=session.config_path, record=record).run()


class _JournalFormatter(logging.Formatter):
    """The journal has its own clock and name; it takes the priority from a prefix, `sd-daemon(3)`."""

    def format(self, record: logging.LogRecord) -> str:
        priority = 6 if record.levelno < logging.WARNING else 4 if record.levelno < logging.ERROR else 3
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s mmd: %(message)s", datefmt="%H:%M:%S"
    )
    if "JOURNAL_STREAM" in os.environ:
        logging.getLogger().handlers[0].setFormatter(_JournalFormatter("%(message)s"))
