"""How are the project's commands run on a board? On this machine itself, or emulated inside an aarch64 root."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.arm.machine import BINFMT, binfmt_rule, last_line

CPU_PARTS = {"cortex-a53": "0xd03", "cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
FEATURES = {
    "cortex-a53": "fp asimd aes pmull sha1 sha2 crc32 cpuid",
    "cortex-a72": "fp asimd aes pmull sha1 sha2 crc32 cpuid",
    "cortex-a76": "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
}
COMMAND_SECONDS = 3600.0
"""A trainer runs only when nobody else wants a processor: on a busy machine a round has taken more than 20 minutes."""


class StepFailed(Exception):
    """A command did not do what it should; the message says what it did."""


@dataclass(frozen=True)
class Board:
    """Where commands run, and what the folders are called there."""

    product: Path
    work: Path
    """The folder for everything that the case writes, as this machine calls it."""
    root: Path | None = None
    dependencies: Path | None = None
    bytecode: Path | None = None
    """Compiled modules, kept from case to case: emulated, compiling takes longer than running."""
    cpu: str = ""

    @property
    def is_emulated(self) -> bool:
        return self.root is not None

    @property
    def work_there(self) -> Path:
        return Path("/work") if self.is_emulated else self.work

    @property
    def product_there(self) -> Path:
        return Path("/opt/product") if self.is_emulated else self.product

    def python(self, *arguments: object) -> str:
        """Run the board's Python with `arguments`; return what it printed. Raises `StepFailed`."""
        words = [str(argument) for argument in arguments]
        enter = ["chroot", str(self.root), "/usr/bin/python3"] if self.is_emulated else [sys.executable]
        try:
            done = subprocess.run(
                [*enter, *words],
                env=self._environment(),
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"{' '.join(words)} took longer than {COMMAND_SECONDS:g} s") from error
        if done.returncode != 0:
            raise StepFailed(f"{' '.join(words)} ended with {done.returncode}: {last_line(done.stderr)}")
        return done.stdout

    def mmd(self, *arguments: object) -> str:
        return self.python("-m", "mmd", *arguments)

    def _environment(self) -> dict[str, str]:
        paths = [self.product_there, Path("/opt/dependencies")] if self.is_emulated else [self.product_there]
        there = self.work_there
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(there),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": ":".join(map(str, paths)),
            "MMD_STATE_DIR": str(there / "state"),
            "MMD_CONFIG": str(there / "mmd.toml"),
            **({"QEMU_CPU": self.cpu, "PYTHONPYCACHEPREFIX": "/opt/bytecode"} if self.is_emulated else {}),
        }


@contextmanager
def entered(board: Board) -> Iterator[None]:
    """Mount what `board` sees. Call it in a mount namespace of its own: that is what unmounts everything."""
    if board.root is None or board.dependencies is None or board.bytecode is None:
        yield
        return
    _mount("-t", "binfmt_misc", "binfmt_misc", BINFMT)
    # Registrations are the kernel's, not the namespace's: another run may have one of its own.
    name = f"mmd-arm-{board.work.parent.name}-{board.work.name}"
    (BINFMT / "register").write_bytes(binfmt_rule(name))
    try:
        _mount("-t", "proc", "proc", board.root / "proc")
        cpuinfo = board.work / "cpuinfo"
        cpuinfo.write_text(_cpuinfo(board.cpu), encoding="ascii")
        # The runtime's processor detection reads /proc/cpuinfo and crashes on x86's.
        _mount("--bind", cpuinfo, board.root / "proc/cpuinfo")
        _mount("--bind", "-o", "ro", "/sys", board.root / "sys")
        _mount("--rbind", "/dev", board.root / "dev")
        _mount("-t", "tmpfs", "tmpfs", board.root / "tmp")
        _mount("--bind", "-o", "ro", board.product, board.root / "opt/product")
        _mount("--bind", "-o", "ro", board.dependencies, board.root / "opt/dependencies")
        _mount("--bind", board.bytecode, board.root / "opt/bytecode")
        _mount("--bind", board.work, board.root / "work")
        yield
    finally:
        # Before Linux 6.7 the registration outlives the mount.
        with contextlib.suppress(OSError):
            (BINFMT / name).write_text("-1", encoding="ascii")


def _cpuinfo(cpu: str) -> str:
    core = (
        "processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
    )
    count = os.cpu_count() or 1
    return "".join(core.format(number=i, features=FEATURES[cpu], part=CPU_PARTS[cpu]) for i in range(count))


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)
