"""Which benchmarks are there? One lazily imported command a question."""

import importlib

import click

BENCHMARKS = {
    "step": "mmd_tools.bench.step:step_command",
    "epoch": "mmd_tools.bench.epoch:epoch_command",
    "preemption": "mmd_tools.bench.preemption:preemption_command",
    "mentoring": "mmd_tools.bench.mentoring:mentoring_command",
    "owners": "mmd_tools.bench.owners:owners_command",
}


class LazyBenchmarks(click.Group):
    """A group whose benchmarks are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in BENCHMARKS if self.get_command(ctx, name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in BENCHMARKS:
            return None
        module, attribute = BENCHMARKS[cmd_name].split(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            return None
        return command


@click.group("bench", cls=LazyBenchmarks)
def bench() -> None:
    """Measure the product; every figure of time but that of `preemption` is a ratio within one run."""
