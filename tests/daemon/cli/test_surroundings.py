"""Does a command say plainly what is wrong around it: a disk that refuses, a terminal that cannot show a letter?"""

import errno
import os
import sys
from pathlib import Path

import click
import pytest
from tests.support import call_mmd, initialised_state, run_mmd, write_png

from mmd.cli.main import COMMANDS


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "mmd: /state/held: No space left on device; free some space and try again."),
        (errno.EACCES, "mmd: /state/held: Permission denied; change its owner or mode, or run this as its owner."),
        (errno.EROFS, "mmd: /state/held: Read-only file system; choose another place, or make it writable."),
    ],
)
def test_a_disk_that_refuses_is_one_line_with_what_to_do(
    number: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/state/held")

    monkeypatch.setattr(sys.modules[__name__], "fail", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", f"{__name__}:fail")
    ran = call_mmd("fail")
    assert (ran.code, ran.error_lines) == (1, [line])


def test_an_output_that_is_not_utf_8_is_no_error(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    write_png(tmp_path / "in" / "\u6570.png", 1)
    env = {"PYTHONIOENCODING": "ascii"}
    for arguments in (["ingest", tmp_path / "in"], ["ingest", tmp_path / "in"], ["samples"], ["status"]):
        ran = run_mmd(*arguments, state=state, env=env)
        assert (ran.code, ran.err) == (0, "")


def test_the_list_of_commands_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in call_mmd("--help").out.split("Commands:")[1]
