"""When files settle in the inbox, who takes them in? A child process: images are never decoded in the daemon."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from mmd.durable import make_folder
from mmd.errors import InputRefused
from mmd.layout import StateDir
from mmd.samples.inbox import InboxWatch, watch

_STOP_SECONDS = 2.0

log = logging.getLogger(__name__)


class Inbox:
    """Watches the inbox folder and runs `mmd ingest --inbox`, one at a time."""

    def __init__(self, state_dir: StateDir, config_file: Path | None) -> None:
        """Begin to watch. Raises `OSError` when the folder cannot be made."""
        self._command = [sys.executable, "-m", "mmd", "ingest", "--inbox", "--state-dir", str(state_dir.root)]
        if config_file is not None:
            self._command += ["--config", str(config_file)]
        self._child: subprocess.Popen[bytes] | None = None
        self._is_due = False
        make_folder(state_dir.inbox)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watch: InboxWatch = watch(state_dir.inbox, self._settled)

    def fileno(self) -> int:
        """Becomes readable when files have settled, for a selector."""
        return self._wake_read

    @property
    def pid(self) -> int | None:
        """Of the pass that runs; `None` when none does."""
        return None if self._child is None else self._child.pid

    def _settled(self) -> None:
        """Called from the watching thread."""
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass  # the daemon has been told often enough
        except OSError:
            log.debug("the inbox is no longer watched")

    def take_notice(self) -> None:
        """Empty the pipe and run a pass, at once or after the one that runs."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        self._is_due = True
        self.look()

    def look(self) -> None:
        """Reap a pass that ended, and begin the one that is due."""
        if self._child is not None:
            status = self._child.poll()
            if status is None:
                return
            if status not in (0, InputRefused.exit_code):
                log.warning("taking in the inbox failed with exit code %d; its files stay, to be tried again", status)
            self._child = None
        if self._is_due:
            try:
                self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            except OSError as error:
                log.warning("cannot take in the inbox now: %s", error)
                return
            self._is_due = False

    def close(self) -> None:
        """Stop watching; a pass that runs is ended between two files."""
        self._watch.stop()
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        os.close(self._wake_read)
        os.close(self._wake_write)
