"""How is a table printed? In columns, every cell whole: a name that is cut short cannot be copied into a recipe."""

from collections.abc import Collection, Sequence

import click


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """Print `rows` under `headings`; the columns that `right` names end at one place, the others begin at one."""
    lines = [headings, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        )
        click.echo("  ".join(cells).rstrip())
