"""Which benchmarks are there? One lazily imported command a question."""

import click

from mmd.lazy import LazyGroup

BENCHMARKS = {
    "step": "mmd_tools.bench.step:step_command",
    "epoch": "mmd_tools.bench.epoch:epoch_command",
    "preemption": "mmd_tools.bench.preemption:preemption_command",
    "idle": "mmd_tools.bench.idle:idle_command",
    "serve": "mmd_tools.bench.serve:serve_command",
    "mentoring": "mmd_tools.bench.mentoring:mentoring_command",
    "owners": "mmd_tools.bench.owners:owners_command",
}


@click.group("bench", cls=LazyGroup, places=BENCHMARKS, short_help="Measure the product.")
def bench() -> None:
    """Measure the product; every figure of time but those of `preemption` and `idle` is a ratio within one run."""
