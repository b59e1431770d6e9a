"""How does a command leave nothing in the temporary folder, wherever ctrl-C finds it?

A `TemporaryDirectory` that is interrupted in mid-removal, or before its `with` has begun, stays where it is. So all
that a command, its libraries and its children put into the temporary folder goes into one folder, and that goes last.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scratch_folder() -> Iterator[None]:
    """Have temporary files of this process and its children made in a folder of their own, and remove it at the end.

    The removal itself cannot be interrupted.
    """
    outer = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="mmd-tools-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield
    finally:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ["TMPDIR"] = tempfile.tempdir = outer
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGINT, handler)
