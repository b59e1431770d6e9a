"""How is a trainer kept from disturbing the board? It starts through this module, which cages itself and becomes it.

`python -m mmd.supervisor.cage --parent PID --memory-mib N [--group FOLDER] -- COMMAND...` enters the control group in
FOLDER, lowers its own priorities, limits its own memory, ties its life to its parent's, offers itself as the first one
to be killed when memory runs out, and then executes COMMAND. What a kernel refuses is left out, not fatal.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
MIB = 1024 * 1024
_LOWEST_NICENESS = 19
_FIRST_TO_DIE = "1000"
"""When the kernel must kill somebody for memory, it takes the trainer, which loses nothing by it."""


def caged(command: Sequence[str], *, memory_mib: float, parent: int, group: Path | None = None) -> list[str]:
    """Return the command line that runs `command` in the cage."""
    cage = [sys.executable, "-m", "mmd.supervisor.cage", "--parent", str(parent), "--memory-mib", f"{memory_mib:g}"]
    if group is not None:
        cage += ["--group", str(group)]
    return [*cage, "--", *command]


def enter(parent: int, memory_mib: float, group: Path | None) -> None:
    """Cage this process."""
    if group is not None:
        with contextlib.suppress(OSError):
            (group / "cgroup.procs").write_text(str(os.getpid()))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # the supervisor died before the kernel knew whom to watch
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_NICENESS)
    _idle_io()
    # numpy's linear algebra is hardly used, and would reserve 32 MiB for each processor.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Not RLIMIT_AS: thread stacks and allocator arenas reserve far more addresses than they ever touch.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(memory_mib * MIB)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _idle_io() -> None:
    import psutil

    with contextlib.suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="mmd.supervisor.cage")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory-mib", type=float, required=True)
    parser.add_argument("--group", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    enter(options.parent, options.memory_mib, options.group)
    os.execvp(options.command[0], options.command)


if __name__ == "__main__":
    main()
