"""What does the reviewer child do? It compares the model on probation with the one before, and leaves its review.

`python -m mmd.supervisor.reviewer --state-dir D --significance A --samples N`. It changes nothing about which model
serves: that is `ModelStore.settle`, which the supervisor does.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmd.config import GateConfig
from mmd.errors import MmdError
from mmd.layout import StateDir

log = logging.getLogger(__name__)


def reviewer_command(state: StateDir, settings: GateConfig) -> list[str]:
    """Return the command line of the child."""
    given = ["--significance", f"{settings.significance:g}", "--samples", str(settings.probation_samples)]
    return [sys.executable, "-m", "mmd.supervisor.reviewer", "--state-dir", str(state.root), *given]


def main(arguments: Sequence[str] | None = None) -> int:
    """Review once and return the exit code."""
    parser = argparse.ArgumentParser(prog="mmd.supervisor.reviewer")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--significance", type=float, required=True)
    parser.add_argument("--samples", type=int, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="mmd: %(message)s")
    settings = msgspec.structs.replace(
        GateConfig(), significance=options.significance, probation_samples=options.samples
    )
    from mmd.promotion.reviewing import review_serving

    try:
        review_serving(StateDir(options.state_dir.absolute()), settings)
    except MmdError as error:
        log.warning("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
