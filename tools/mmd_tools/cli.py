"""Which commands does `mmd-tools` have, and how does each of them fail?

Every command lives in its own module and is imported only when it is called.
"""

import os
import sys

import click

from mmd import __version__
from mmd.errors import INTERRUPTED, MmdError, unforeseen, was_interrupted
from mmd.lazy import LazyGroup, ReaderLeft
from mmd_tools.scratch import scratch_folder

COMMANDS = {
    "prepare": "mmd_tools.prepare:prepare",
    "train": "mmd_tools.train:train",
    "inspect": "mmd_tools.inspect:inspect_command",
    "pairs": "mmd_tools.fuse.command:pairs_command",
    "fuse": "mmd_tools.fuse.command:fuse_command",
    "verify": "mmd_tools.verify:verify_command",
    "shrink": "mmd_tools.shrink.command:shrink_command",
    "export": "mmd_tools.export:export_command",
    "step": "mmd_tools.step:step",
    "bench": "mmd_tools.bench.cli:bench",
}


@click.group(cls=LazyGroup, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mmd-tools")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Everything that happens offline, before a board sees an artifact set."""
    context.ensure_object(dict)["debug"] = debug


def main() -> None:
    """Run `mmd-tools`. Foreseen errors are one line on stderr; a traceback appears only under `--debug`."""
    session: dict[str, bool] = {}
    try:
        with scratch_folder():
            result = cli.main(prog_name="mmd-tools", obj=session, standalone_mode=False)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MmdError as error:
        if session.get("debug"):
            raise
        click.echo(f"mmd-tools: {error}", err=True)
        sys.exit(error.exit_code)
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the last resort: what nobody foresaw is one line too, and exit code 1
        if was_interrupted(error):
            sys.exit(INTERRUPTED)
        if session.get("debug"):
            raise
        click.echo(f"mmd-tools: {unforeseen(error)}", err=True)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
