"""How is the progress of a round shown? A bar with the loss on a terminal, nothing in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import rich.progress


class Progress(Protocol):
    """Where a round's progress goes."""

    def show(self, number: int, step: int, steps: int, loss: float | None, *, note: str) -> None: ...

    def note(self, text: str) -> None:
        """Say what is going on beside the steps."""
        ...

    def say(self, sentence: str) -> None:
        """Say something that stays on the screen."""
        ...


class _Silent:
    """For a pipe: only what the owner must know, on standard error."""

    def show(self, number: int, step: int, steps: int, loss: float | None, *, note: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def say(self, sentence: str) -> None:
        print(f"mmd: {sentence}", file=sys.stderr)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield where progress goes: a bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("round {task.fields[number]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _OnTerminal(bar)


class _OnTerminal:
    """Draws the bar."""

    def __init__(self, bar: "rich.progress.Progress") -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, number="", loss="-", note="starting")

    def show(self, number: int, step: int, steps: int, loss: float | None, *, note: str) -> None:
        shown = "-" if loss is None else f"{loss:.4f}"
        self._bar.update(self._task, completed=step, total=steps, number=number, loss=shown, note=note)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)

    def say(self, sentence: str) -> None:
        self._bar.console.print(f"mmd: {sentence}", highlight=False)
