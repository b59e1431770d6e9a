"""Does everything temporary go when a command ends, also what nobody had the time to remove?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LEAVES_ALL_BEHIND = """
import os, signal, subprocess, sys, tempfile
from mmd_tools.scratch import scratch_folder

with scratch_folder():
    tempfile.mkdtemp()
    child = "import tempfile; print(tempfile.mkdtemp())"
    print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout, end="", flush=True)
    if sys.argv[1] == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
"""


@pytest.mark.parametrize("end", ["interrupted", "as usual"])
def test_what_was_left_in_the_temporary_folder_goes_with_the_command(end: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LEAVES_ALL_BEHIND, end],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert Path(ran.stdout.strip()).is_relative_to(tmp_path)
    assert (ran.returncode == 0) == (end == "as usual")
    assert list(tmp_path.iterdir()) == []
