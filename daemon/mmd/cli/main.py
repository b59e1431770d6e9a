"""Which commands does `mmd` have, and how does each of them fail?

Every command lives in its own module and is imported only when it is called, so that `mmd status` stays quick.
"""

import io
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmd import __version__
from mmd.errors import INTERRUPTED, MmdError, UsageError, unforeseen, was_interrupted
from mmd.layout import StateDir, default_config_file, default_state_dir
from mmd.lazy import LazyGroup, ReaderLeft

if TYPE_CHECKING:
    from mmd.config import Config

COMMANDS = {
    "demo": "mmd.cli.demo:demo",
    "init": "mmd.cli.init:init",
    "ingest": "mmd.cli.ingest:ingest",
    "label": "mmd.cli.label:label",
    "samples": "mmd.cli.samples:samples",
    "run": "mmd.cli.run:run",
    "train": "mmd.cli.train:train",
    "status": "mmd.cli.status:status",
    "why": "mmd.cli.why:why",
    "predict": "mmd.cli.predict:predict",
    "serve": "mmd.cli.serve:serve",
    "models": "mmd.cli.models:models",
    "rollback": "mmd.cli.rollback:rollback",
    "forget": "mmd.cli.forget:forget",
    "pause": "mmd.cli.pause:pause",
    "resume": "mmd.cli.resume:resume",
    "report": "mmd.cli.report:report",
    "doctor": "mmd.cli.doctor:doctor",
    "replay": "mmd.cli.replay:replay",
    "install-service": "mmd.cli.install_service:install_service",
}


@dataclass
class Session:
    """What every command is given: the state folder and the configuration, both resolved on first use."""

    state_dir: Path | None = None
    config_file: Path | None = None
    debug: bool = False
    _config: "Config | None" = field(default=None, repr=False)

    @property
    def state(self) -> StateDir:
        chosen = self.state_dir or os.environ.get("MMD_STATE_DIR") or default_state_dir()
        return StateDir(Path(chosen).absolute())

    @property
    def config_path(self) -> Path | None:
        """The configuration file in force; `None` when the defaults are."""
        chosen = self.config_file or os.environ.get("MMD_CONFIG")
        if chosen:
            return Path(chosen).absolute()
        usual = default_config_file()
        return usual if usual.is_file() else None

    @property
    def config(self) -> "Config":
        if self._config is None:
            from mmd.config import load_config

            self._config = load_config(self.config_path)
        return self._config

    def initialised_state(self) -> StateDir:
        """Return the state folder, or raise `UsageError` when `mmd init` has not made it yet."""
        if not self.state.is_initialised:
            raise UsageError(f"There is no artifact set in {self.state.root}; run `mmd init` first.")
        return self.state


pass_session = click.make_pass_decorator(Session, ensure=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Session), str(parameter.name), value)


def _common_options() -> list[click.Option]:
    """Return the options that every command takes, before or after its name."""
    common: dict[str, Any] = {"expose_value": False, "callback": _remember}
    # Whoever may not read them is told so by the command, which knows what to do about it.
    folder = click.Path(path_type=Path, file_okay=False, readable=False)
    file = click.Path(path_type=Path, dir_okay=False, readable=False)
    return [
        click.Option(["--state-dir"], type=folder, help="State folder [env: MMD_STATE_DIR].", **common),
        click.Option(["--config", "config_file"], type=file, help="Configuration file [env: MMD_CONFIG].", **common),
        click.Option(["--debug"], is_flag=True, help="Show a traceback when something goes wrong.", **common),
    ]


class _Commands(LazyGroup):
    """Every command takes the common options, too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is not None and not any(parameter.name == "config_file" for parameter in command.params):
            command.params.extend(_common_options())
        return command


@click.group(
    cls=_Commands,
    places=COMMANDS,
    params=list(_common_options()),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="mmd")
@click.pass_context
def cli(context: click.Context) -> None:
    """A small network on this board learns its owner's samples, supervised by a big one."""
    context.ensure_object(Session)


def main() -> None:
    """Run `mmd`. Foreseen errors are one line on stderr; a traceback appears only under `--debug`."""
    session = Session()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character (a Latin-1 locale, say) shows `?` for it.
        sys.stdout.reconfigure(errors="replace")
    try:
        result = cli.main(prog_name="mmd", obj=session, standalone_mode=False)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MmdError as error:
        if session.debug:
            raise
        print(f"mmd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the last resort: what nobody foresaw is one line too, and exit code 1
        if was_interrupted(error):
            sys.exit(INTERRUPTED)
        if session.debug:
            raise
        print(f"mmd: {unforeseen(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
