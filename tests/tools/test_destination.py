"""Does what a command writes land behind a link, in a folder that is there, and never over a device?"""

import os
from pathlib import Path

import onnx
import pytest
from tests.support import call_tools

from mmd.errors import UsageError
from mmd_tools.destination import behind_links, destination


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_a_link_and_the_file_behind_it_is_written(is_there: bool, tiny_set: Path, tmp_path: Path) -> None:
    behind, link = tmp_path / "disk" / "mine.onnx", tmp_path / "mine.onnx"
    behind.parent.mkdir()
    if is_there:
        behind.write_text("old")
    link.symlink_to("disk/mine.onnx")
    ran = call_tools("export", tiny_set, "--out", link)
    assert (ran.code, ran.err) == (0, "")
    assert link.readlink() == Path("disk/mine.onnx")
    assert onnx.load(behind).graph.node
    assert [path.name for path in behind.parent.iterdir()] == ["mine.onnx"]


def test_what_is_no_plain_file_is_refused_and_stays(tiny_set: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ran = call_tools("export", tiny_set, "--out", tmp_path / "pipe")
    assert (ran.code, len(ran.error_lines)) == (2, 1)
    assert "is no plain file" in ran.err
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_is_not_there_is_named_where_nobody_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none for --plot does not exist; make it first"):
        destination(tmp_path / "none" / "x.png", "--plot")
    assert behind_links(tmp_path / "none" / "x.npz") == tmp_path.resolve() / "none" / "x.npz"
