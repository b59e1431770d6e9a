"""The real daemon with the fake trainer, as a process of its own: `python tests/fakes/daemon.py STATE CONFIG`."""

import logging
import sys
from pathlib import Path

import msgspec

from mmd.conditions import Instant
from mmd.conditions.reading import system_clock
from mmd.config import load_config
from mmd.layout import StateDir
from mmd.supervisor.daemon import Daemon

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fakes.trainer import fake_trainer_command

RETRY_SECONDS = (0.1, 0.2)
CLOCK_NAME = "clock"
"""In the state folder: by how many seconds somebody has set the wall clock wrong."""


def clock_of(state_dir: StateDir) -> Instant:
    now, file = system_clock(), state_dir.root / CLOCK_NAME
    return msgspec.structs.replace(now, wall=now.wall + float(file.read_text())) if file.exists() else now


def main() -> None:
    state_dir, config_file = StateDir(Path(sys.argv[1])), Path(sys.argv[2])
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    Daemon(
        state_dir,
        lambda: load_config(config_file),
        config_file=config_file,
        clock=lambda: clock_of(state_dir),
        command=lambda state, number: fake_trainer_command(state.root, number),
        retry_seconds=RETRY_SECONDS,
    ).run()


if __name__ == "__main__":
    main()
