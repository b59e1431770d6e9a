"""Which control groups has systemd handed over to the daemon, and how do they keep the trainer in?

With `Delegate=yes` the group of the service is the daemon's own. It moves into `supervisor/` below that and gives the
trainer a group beside it, with a memory limit and the lowest claim to processors and disks. What this kernel or this
machine does not offer is left out: the cage of the process itself (`mmd.supervisor.cage`) holds without any of it.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmd.conditions.control_group import SUPERVISOR_GROUP
from mmd.conditions.reading import read_text

CONTROLLERS = ("memory", "cpu", "io")
MIB = 1024 * 1024
_DELEGATED = ("user.delegate", "trusted.delegate")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerGroup:
    """The control group that every trainer enters."""

    folder: Path

    def limit(self, memory_mib: float) -> None:
        """Set the limits of the next trainer: its memory, and to be the last to get a processor or a disk."""
        _write(self.folder / "memory.max", str(int(memory_mib * MIB)))
        _write(self.folder / "memory.oom.group", "1")
        if not _write(self.folder / "cpu.idle", "1"):
            _write(self.folder / "cpu.weight", "1")
        for name in ("io.weight", "io.bfq.weight"):
            _write(self.folder / name, "default 1")

    def oom_kills(self) -> int:
        """Return how many processes in here the kernel killed for want of memory."""
        return _count(self.folder / "memory.events", "oom_kill")


def machine_oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of this machine the kernel killed for want of memory since it started."""
    return _count(root / "proc/vmstat", "oom_kill")


def take_over(root: Path = Path("/")) -> TrainerGroup | None:
    """Move this process aside and return the trainer's group; `None` where no group is delegated to us."""
    own = delegated_group(root)
    if own is None:
        return None
    for name in (SUPERVISOR_GROUP, "trainer"):
        try:
            (own / name).mkdir(exist_ok=True)
        except OSError as error:
            log.warning("cannot make the control group %s: %s", own / name, error.strerror)
            return None
    # A group with processes in it may not hand controllers down.
    if not _write(own / SUPERVISOR_GROUP / "cgroup.procs", str(os.getpid())):
        return None
    for controller in sorted(set(CONTROLLERS) & set((read_text(own / "cgroup.controllers") or "").split())):
        _write(own / "cgroup.subtree_control", f"+{controller}")
    return TrainerGroup(own / "trainer")


def delegated_group(root: Path = Path("/")) -> Path | None:
    """Return the control group of this service if it may be divided: it is ours alone, and was given to us."""
    for folder in _own_folders(root):
        if not folder.name.endswith(".service") or not os.access(folder / "cgroup.procs", os.W_OK):
            continue
        # Who is not root may write there only because it was handed over; root may write everywhere.
        if os.access(folder, os.W_OK) and (os.geteuid() != 0 or _is_marked_delegated(folder)):
            return folder
    return None


def _own_folders(root: Path) -> Iterator[Path]:
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        if line.startswith("0::/"):
            for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                yield root / mount / line.removeprefix("0::/")


def _is_marked_delegated(folder: Path) -> bool:
    for name in _DELEGATED:
        try:
            return os.getxattr(folder, name) == b"1"
        except OSError:
            continue
    return False


def _write(path: Path, text: str) -> bool:
    """Write one file of the control group file system; return whether it is there and took it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never creates: what is missing is not offered here
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        log.info("%s does not take %s: %s", path, text, error.strerror)
        return False
    finally:
        os.close(descriptor)
    return True


def _count(path: Path, name: str) -> int:
    for line in (read_text(path) or "").splitlines():
        word, _, value = line.partition(" ")
        if word == name and value.isdigit():
            return int(value)
    return 0
