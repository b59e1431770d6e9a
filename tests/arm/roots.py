"""What does an aarch64 board have installed? Makes Debian roots and installs the project from aarch64 wheels alone."""

import email
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from tests.arm.machine import CannotRun, Mirror, last_line

PYTHONS = {"trixie": "3.13", "bookworm": "3.11"}
"""The Python of each Debian; Raspberry Pi OS follows them."""
PACKAGES = ("python3", "libstdc++6", "libc-bin", "zlib1g", "coreutils", "bash", "dash")
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "opt/product", "opt/dependencies", "opt/bytecode", "work")
NEWEST_GLIBC = 36
"""bookworm has glibc 2.36."""
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "daemon", "tools", "artifacts", "systemd")


class BuildFailed(Exception):
    """The project could not be installed for aarch64; the message says what failed."""


def debian_root(cache: Path, suite: str, mirror: Mirror | None) -> Path:
    """Return the root folder of `suite`, made on first use where there is a mirror."""
    folder = cache / f"root-{suite}-{key_of([*PACKAGES, *MOUNT_POINTS])}"
    if folder.is_dir():
        return folder
    if mirror is None:
        raise CannotRun(f"no {suite} root is at hand; `make arm-test ARM=--quick` makes one")
    options = [f"--aptopt={option}" for option in mirror.apt_options]
    # Unpacking is enough, and needs no emulation.
    kind = ["--quiet", "--arch=arm64", "--variant=extract", f"--include={','.join(PACKAGES)}"]
    with Prepared(folder) as prepared:
        command = ["mmdebstrap", *kind, *options, suite, str(prepared), f"deb {mirror.url} {suite} main"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotRun(f"mmdebstrap made no {suite} root: {last_line(done.stderr)}")
        for name in MOUNT_POINTS:
            (prepared / name).mkdir(parents=True, exist_ok=True)
    return folder


def wheel(repository: Path, into: Path) -> Path:
    """Build the project's wheel from a copy of its sources, so that no build folder is left among them."""
    copy = into / "sources"
    copy.mkdir()
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        if (repository / name).is_dir():
            shutil.copytree(repository / name, copy / name, symlinks=True, ignore=litter)
        else:
            shutil.copy2(repository / name, copy / name)
    pip(["wheel", "--no-deps", "--wheel-dir", str(into), str(copy)])
    (built,) = into.glob("*.whl")
    return built


def unpacked(built: Path, into: Path) -> Path:
    """Install the wheel alone into the folder `into`."""
    pip(["install", "--no-deps", "--no-compile", "--target", str(into), str(built)])
    return into


def dependencies(cache: Path, built: Path, python: str, *, may_fetch: bool = True) -> Path:
    """Return a folder with all that `built` requires on an aarch64 board, installed on first use."""
    wanted = board_requirements(requirements_of(built), python)
    folder = cache / f"dependencies-{python}-{key_of(wanted)}"
    if folder.is_dir():
        return folder
    if not may_fetch:
        raise CannotRun(f"no aarch64 wheels for Python {python} are at hand; `make arm-test ARM=--quick` fetches them")
    for earlier in cache.glob(f"dependencies-{python}-*"):
        shutil.rmtree(earlier)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(NEWEST_GLIBC, 16, -1)]
    target = [*platforms, "--platform=manylinux2014_aarch64", f"--python-version={python}", "--implementation=cp"]
    with Prepared(folder) as prepared, tempfile.TemporaryDirectory(dir=cache) as wheels:
        # Only `download` asks whether the board's Python, not this one, is new enough for a package.
        pip(["download", "--only-binary=:all:", "--dest", wheels, *target, *wanted])
        files = sorted(map(str, Path(wheels).iterdir()))
        pip(
            [
                "install",
                "--no-deps",
                "--ignore-requires-python",
                "--no-compile",
                "--target",
                str(prepared),
                *target,
                *files,
            ]
        )
    return folder


def board_requirements(requirements: Sequence[str], python: str, *, machine: str = "aarch64") -> list[str]:
    """Return those of `requirements` whose marker holds on such a board: pip itself asks the machine it runs on."""
    board = {
        "extra": "",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    parsed = [Requirement(requirement) for requirement in requirements]
    held = [each for each in parsed if each.marker is None or each.marker.evaluate(board)]
    return sorted(f"{each.name}{each.specifier}" for each in held)


def requirements_of(built: Path) -> list[str]:
    with zipfile.ZipFile(built) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


def pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"pip {arguments[0]} failed: {last_line(done.stderr)}")


def key_of(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


class Prepared:
    """A folder that takes its name only when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared = folder.with_name(folder.name + ".part")

    def __enter__(self) -> Path:
        shutil.rmtree(self._prepared, ignore_errors=True)
        self._prepared.mkdir(parents=True)
        return self._prepared

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._prepared.replace(self._folder)
        else:
            shutil.rmtree(self._prepared, ignore_errors=True)
