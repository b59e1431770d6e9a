"""How does a command stay unimported until it is called?"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import click


class ReaderLeft(Exception):
    """Whoever reads the output (`head`, say) has gone; there is nobody left to tell."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, *arguments: Any, places: Mapping[str, str], **options: Any) -> None:
        """Take `places`: the module and attribute of each command, as `package.module:command`, by its name."""
        super().__init__(*arguments, **options)
        self._places = places

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # click would make exit code 1 of it.
            raise ReaderLeft from error
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        module, attribute = self._places[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command
