"""Does `mmd-tools` end as a command line tool should when its output or its disk goes away?"""

import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from tests.support import call_tools

from mmd_tools.cli import COMMANDS, cli

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    ran = call_tools(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "--help" in ran.out


@pytest.mark.parametrize("group", [(), ("prepare",), ("bench",)])
def test_no_command_s_line_is_cut_short(group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in call_tools(*group, "--help").out.split("Commands:")[1]


def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mmd_tools.cli", "inspect", str(GOLDEN / "mentee.onnx")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "m.onnx"))
    with mock.patch("mmd.durable.write_bytes", side_effect=full):
        ran = call_tools("export", GOLDEN, "--out", tmp_path / "m.onnx")
    assert ran.code == 1
    assert ran.err == f"mmd-tools: {tmp_path / 'm.onnx'}: No space left on device; free some space and try again.\n"


def test_an_unknown_command_is_named() -> None:
    ran = call_tools("fus")
    assert ran.code == 2
    assert "No such command 'fus'" in ran.err
    assert cli.get_command(mock.Mock(), "fus") is None
