"""How is a real systemd booted with the product installed, and left without a trace?

A Debian root by mmdebstrap, with all that the product requires, is kept in the cache. `Machine` boots it under
systemd-nspawn with an overlay in memory, so that what happens inside is forgotten; it has no network.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from tests.arm.machine import CannotRun, debian_mirror, last_line
from tests.arm.roots import BuildFailed, Prepared, board_requirements, key_of, pip, requirements_of, wheel
from tests.support import Ran, eventually

from mmd.supervisor.journal import STATE_CHANGED

SUITE, PYTHON = "trixie", "3.13"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-venv", "python3-dbusmock")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
NEWEST_GLIBC = 41
"""trixie has glibc 2.41."""
INCOMING = "/run/incoming"
MMD = "/opt/mmd/bin/mmd"
STATE = "/var/lib/mmd"
BOOT_SECONDS = 60.0
_PROGRAMS = {"systemd-nspawn": "systemd-container", "nsenter": "util-linux", "mmdebstrap": "mmdebstrap"}


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmd-systemd"


def require_machine() -> None:
    """Raise `CannotRun` with the reason where no systemd can be booted."""
    if os.geteuid() != 0:
        raise CannotRun("only root can boot a systemd; try sudo")
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise CannotRun(f"it needs `apt-get install {' '.join(missing)}`")
    if os.uname().machine != "x86_64":
        raise CannotRun(f"its wheels are for x86-64, and this is {os.uname().machine}")


@contextlib.contextmanager
def installed(repository: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a root with everything that the product requires, and a folder with the product's wheel.

    Raises `CannotRun` when no mirror or registry gives the parts.
    """
    require_machine()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    incoming = folder / "incoming"
    incoming.mkdir()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = wheel(repository, folder)
        shutil.move(built, incoming)
        extra = _extra_requirements(incoming / built.name)
        _download(["--no-deps", "--only-binary=:all:", "--dest", str(incoming), *extra])
        wanted = board_requirements(requirements_of(incoming / built.name), PYTHON, machine="x86_64")
        root = _debian_root(cache, wanted)
    yield root, incoming


def _debian_root(cache: Path, requirements: list[str]) -> Path:
    folder = cache / f"root-{SUITE}-{key_of([*PACKAGES, *requirements])}"
    if folder.is_dir():
        return folder
    with Prepared(folder) as prepared:
        unpack_debian(PACKAGES, prepared)
        _install_dependencies(prepared, requirements)
    for earlier in set(cache.glob(f"root-{SUITE}-*")) - {folder}:
        shutil.rmtree(earlier)
    return folder


def unpack_debian(packages: Sequence[str], root: Path) -> None:
    """Fill `root` with a small Debian that has `packages`, without their documentation. Raises `CannotRun`."""
    mirror = debian_mirror()
    options = [f"--aptopt={option}" for option in mirror.apt_options]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", *options]
    done = _call(*command, SUITE, str(root), f"deb {mirror.url} {SUITE} main")
    if done.code != 0:
        raise CannotRun(f"mmdebstrap made no {SUITE} root with {packages[0]}: {last_line(done.err)}")


def _install_dependencies(root: Path, requirements: list[str]) -> None:
    """Make /opt/mmd in `root` with the wheels that are for its Python, not for this one."""
    wheels = root / "opt/wheels"
    wheels.mkdir(parents=True)
    target = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(NEWEST_GLIBC, 16, -1)]
    target += ["--platform=manylinux2014_x86_64", f"--python-version={PYTHON}", "--implementation=cp"]
    _download(["--only-binary=:all:", "--dest", str(wheels), *target, *requirements])
    script = (
        "python3 -m venv /opt/mmd && "
        "/opt/mmd/bin/pip install --quiet --no-compile --no-index --no-deps /opt/wheels/*.whl && rm -r /opt/wheels"
    )
    done = _call(
        "systemd-nspawn", "-q", "--register=no", *_unit_option(), "-D", str(root), "--pipe", "sh", "-c", script
    )
    if done.code != 0:
        raise CannotRun(f"the dependencies were not installed: {last_line(done.err)}")


def _extra_requirements(built: Path) -> list[str]:
    """Return what the extra `serve` of the wheel adds."""
    wanted = [line.partition(";") for line in requirements_of(built)]
    return [name.strip() for name, _, marker in wanted if re.search("""extra == ['"]serve['"]""", marker)]


def _download(arguments: list[str]) -> None:
    try:
        pip(["download", *arguments])
    except BuildFailed as error:
        raise CannotRun(str(error)) from error


def _unit_option() -> list[str]:
    # Where systemd is not the first process, there is nobody who would make a scope.
    return [] if Path("/run/systemd/system").is_dir() else ["--keep-unit"]


def _call(*command: str) -> Ran:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


class Inside(ABC):
    """What can be asked of a machine with the product in it, however it is booted; leaving it switches it off."""

    @abstractmethod
    def start(self) -> None:
        """Begin to boot."""

    @abstractmethod
    def wait_until_up(self) -> None:
        """Return when commands can be run. Raises `CannotRun` where this does not come."""

    @abstractmethod
    def switch_off(self) -> None:
        """End it, in whatever state it is."""

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_up()
        except BaseException:
            self.switch_off()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch_off()

    @abstractmethod
    def run(self, *command: str) -> Ran:
        """Run a command as root inside."""

    def check(self, *command: str) -> str:
        """Run a command that must succeed; return its output."""
        ran = self.run(*command)
        assert ran.code == 0, f"{' '.join(command)}: {ran.out}{ran.err}"
        return ran.out

    def mmd(self, *arguments: str) -> str:
        """Run `mmd` as its own user."""
        return self.check("runuser", "-u", "mmd", "--", MMD, "--state-dir", STATE, *arguments)

    def write(self, path: str, text: str) -> None:
        self.check("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" > "$0"', path, text)

    def unit(self, name: str, *, of: str = "mmd") -> str:
        """Return one property of a unit."""
        return self.check("systemctl", "show", of, "--value", "-p", name).strip()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mmd("status", "--json"))
        return found

    def install(self, configuration: str) -> None:
        """Install the product as systemd/README.md says; the service is not started yet."""
        self.check("sh", "-c", f"/opt/mmd/bin/pip install --quiet --no-deps --no-index {INCOMING}/*.whl")
        self.check(MMD, "install-service")
        self.check("systemd-sysusers", "mmd.conf")
        self.check("systemd-tmpfiles", "--create", "mmd.conf")
        self.mmd("init")
        self.write("/etc/mmd/mmd.toml", configuration)
        self.check("systemctl", "daemon-reload")

    def ingest_the_owner(self) -> None:
        """Take in the samples that the product ships."""
        owner = self.check("sh", "-c", "ls -d /opt/mmd/lib/python3*/site-packages/mmd/shipped/owner").strip()
        self.mmd("ingest", owner)

    def ask_for_a_round(self) -> None:
        """Have the daemon train whatever this machine is busy with."""
        code = (
            "import sys; from pathlib import Path; from mmd.supervisor.control import ask;"
            f"ask(Path('{STATE}/control.sock'), {{'request': 'train', 'force': True}})"
        )
        self.check("runuser", "-u", "mmd", "--", "/opt/mmd/bin/python", "-c", code)

    def last_reasons(self) -> list[str]:
        """Return the reasons of the last change of state that the journal has: asking the daemon would make it look."""
        found = self.check("journalctl", "-u", "mmd", "-o", "json", "--no-pager", "-n1", f"MESSAGE_ID={STATE_CHANGED}")
        reasons: str = json.loads(found)["MMD_REASONS"]
        return reasons.split()


class Machine(Inside):
    """One machine in a container."""

    def __init__(self, root: Path, incoming: Path) -> None:
        self._command = ["systemd-nspawn", "-q", "-b", "-D", str(root), "--volatile=overlay", "--register=no"]
        self._command += [*_unit_option(), "-M", f"mmd-test-{os.getpid()}", "--console=pipe", "--private-network"]
        self._command += [f"--bind-ro={incoming}:{INCOMING}"]
        self._groups = _left_groups()

    def start(self) -> None:
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self._nspawn = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait_until_up(self) -> None:
        eventually(self._is_up, within=BOOT_SECONDS, every=0.1)

    def switch_off(self) -> None:
        if self._nspawn.poll() is None:
            with contextlib.suppress(psutil.Error, StopIteration):
                self.run("systemctl", "poweroff")
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.terminate()
                self._nspawn.wait(10)
        for group in _left_groups() - self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()

    def _is_up(self) -> bool:
        if self._nspawn.poll() is not None:
            assert self._nspawn.stderr is not None
            raise CannotRun(f"systemd-nspawn does not boot here: {last_line(self._nspawn.stderr.read())}")
        try:
            return self.run("systemctl", "is-system-running").out.strip() in ("running", "degraded")
        except (StopIteration, psutil.Error):
            return False

    @property
    def _leader(self) -> int:
        """The machine's first process as this one sees it."""
        children = psutil.Process(self._nspawn.pid).children()
        return next(child.pid for child in children if child.name() == "systemd")

    def run(self, *command: str) -> Ran:
        """Run a command as root inside."""
        return _call("nsenter", "--target", str(self._leader), "--all", *command)


def _left_groups() -> set[Path]:
    """Return the control groups that nspawn makes beside this process and leaves behind."""
    bases = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    return {base / name for base in bases for name in ("payload", "supervisor") if (base / name).is_dir()}
