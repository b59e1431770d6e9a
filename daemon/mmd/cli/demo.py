"""`mmd demo`: watch a small network learn one real person's handwriting."""

import shutil
import tempfile
from pathlib import Path

import click


@click.command(short_help="See a small network learn one real person's handwriting.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Leave the demonstration's state in this new folder, to look around in with the other commands.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="Where the report goes.",
)
def demo(keep: Path | None, report: Path) -> None:
    """Watch a small network on this machine learn one real person's handwriting.

    Starts the real daemon on a new state folder with simulated sensors, gives it a stranger's handwritten digits, every
    second one without a label, pulls the charger out in mid-round, and shows whether what was learned is better.
    Touches nothing else on this machine.
    """
    from rich.console import Console

    from mmd.demo.story import Demonstration
    from mmd.errors import UsageError

    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"{keep} is not empty; name a new folder.")
    console = Console(highlight=False)
    folder = (keep or Path(tempfile.mkdtemp(prefix="mmd-demo-"))).absolute()
    try:
        outcome = Demonstration(folder, console).play(report.absolute())
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"\nThe report is in {report} ({outcome.seconds:.0f} s in all).")
    if keep is not None:
        console.print(f"Look around: mmd --state-dir {keep / 'state'} status")
