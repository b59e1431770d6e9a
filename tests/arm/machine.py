"""Can this machine run aarch64 programs in a root folder? Says why not, and installs what is missing."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap"}
"""Program and the Debian package that brings it."""
BINFMT = Path("/proc/sys/fs/binfmt_misc")
BINFMT_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
NAMESPACE = ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child"]
"""Whatever is mounted in there is gone when the last process of it is; and there is no network."""


class CannotRun(Exception):
    """This machine is not one that the test can run on; the message is the reason."""


@dataclass(frozen=True)
class Mirror:
    """Where this machine takes its Debian packages from, and the options apt needs there."""

    url: str
    apt_options: tuple[str, ...]


def prepare() -> Mirror:
    """Install what is missing and return the mirror. Raises `CannotRun`."""
    _require_debian_root()
    _require_packages()
    mirror = debian_mirror()
    _require_namespace()
    return mirror


def require_ready() -> None:
    """Raise `CannotRun` where something would have to be installed first."""
    _require_debian_root()
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise CannotRun(f"{program} is missing; `make arm-test` installs {package}")
    _require_namespace()


def binfmt_rule(name: str) -> bytes:
    """Return what registers qemu for aarch64 programs under `name`."""
    _, _, rest = BINFMT_RULE.read_text(encoding="ascii").strip().split(":", 2)
    return f":{name}:{rest}".encode()


def _require_debian_root() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotRun(f"it compares with x86-64 Linux, and this is {sys.platform} on {platform.machine()}")
    if os.geteuid() != 0:
        raise CannotRun("only root can make the folders and enter them; try sudo")
    if shutil.which("apt-get") is None:
        raise CannotRun("there is no apt-get, so this is not Debian")


def _require_packages() -> None:
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "--quiet"], install):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotRun(f"{' '.join(command)} failed: {last_line(done.stderr)}")


def debian_mirror() -> Mirror:
    """Read the mirror from apt's own sources."""
    fields = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    for attempt in range(2):
        targets = _output(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
        for target in targets.splitlines():
            words = target.split()
            if len(words) == 4 and words[:2] == ["Debian", "main"] and "-" not in words[2]:
                return Mirror(words[3], _acquire_options())
        if attempt == 0:
            # Before the first update apt does not know whose packages its sources hold.
            _output(["apt-get", "update", "--quiet"])
    raise CannotRun("apt's sources name no Debian mirror")


def _acquire_options() -> tuple[str, ...]:
    """Return this machine's own ways of reaching its mirror: proxies, certificates, checks of dates."""
    wanted = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")
    lines = _output(["apt-config", "dump"]).splitlines()
    return tuple(line.rstrip(";") for line in lines if line.startswith(wanted) and not line.endswith('"";'))


def _require_namespace() -> None:
    """Try in a namespace of its own what every case does: nothing is left of it."""
    if not BINFMT_RULE.is_file():
        raise CannotRun(f"qemu-user-static brought no {BINFMT_RULE}")
    mount = f"mount -t binfmt_misc binfmt_misc {BINFMT} && test -w {BINFMT}/register"
    if shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "--quiet", "binfmt_misc"], capture_output=True, check=False)
    done = subprocess.run([*NAMESPACE, "sh", "-c", mount], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"no binfmt_misc in a mount namespace of its own: {last_line(done.stderr)}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"
