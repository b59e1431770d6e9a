"""Is every cell of a table whole, and every number under its heading?"""

import click
from click.testing import CliRunner

from mmd_tools.tables import print_table


def printed(*arguments: object, **options: object) -> list[str]:
    command = click.Command("table", callback=lambda: print_table(*arguments, **options))
    return CliRunner().invoke(command).output.splitlines()


def test_names_begin_and_numbers_end_at_one_place() -> None:
    rows = [("conv", "8"), ("a very long name/of a tensor_0", "1,024")]
    assert printed(("tensor", "size"), rows, right=("size",)) == [
        "tensor                           size",
        "conv                                8",
        "a very long name/of a tensor_0  1,024",
    ]


def test_no_line_ends_in_blanks() -> None:
    assert printed(("a", "b"), [("1", ""), ("1", "longer")]) == ["a  b", "1", "1  longer"]
