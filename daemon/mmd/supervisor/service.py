"""Which files make a system service of the daemon, and where do they belong? The wheel carries them."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmd import durable
from mmd.errors import MmdError, UsageError

# In a checkout a symbolic link to systemd/; in a wheel a folder.
CARRIED = Path(__file__).resolve().parent.parent / "units"
UNIT_NAME = "mmd.service"
PLACES = {
    UNIT_NAME: f"etc/systemd/system/{UNIT_NAME}",
    "mmd-serve.service": "etc/systemd/system/mmd-serve.service",
    "mmd-serve.socket": "etc/systemd/system/mmd-serve.socket",
    "sysusers.d/mmd.conf": "etc/sysusers.d/mmd.conf",
    "tmpfiles.d/mmd.conf": "etc/tmpfiles.d/mmd.conf",
}
USUAL_PROGRAM = "/opt/mmd/bin/mmd"
"""What the unit starts as it is shipped."""
SERVE_STEP = "systemctl enable --now mmd-serve.socket   # if other programs are to ask the model, too"
STATE_FOLDER = "/var/lib/mmd"
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What ProtectHome= and PrivateTmp= hide from the service."""
_FILE_MODE = 0o644


class Change(StrEnum):
    NEW = "new"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Placement:
    """One file and what installing it means."""

    destination: Path
    content: bytes
    change: Change


def placements(root: Path, program: str) -> list[Placement]:
    """Return every file with its place under `root`, for a service that starts `program`.

    Raises `UsageError` for a program that the sandbox hides and for a masked unit; `MmdError` where files are missing
    from this installation or cannot be read.
    """
    if not program.startswith("/") or any(character.isspace() or character in "%$\"'\\;" for character in program):
        raise UsageError(f"The service cannot start {program!r}; give the absolute path of mmd, without special signs.")
    if any(Path(program).is_relative_to(folder) for folder in HIDDEN):
        raise UsageError(
            f"The service could not see {program}: its sandbox hides {', '.join(HIDDEN)}. "
            f"Install mmd elsewhere (python3 -m venv /opt/mmd) and run {USUAL_PROGRAM} install-service."
        )
    return [_placement(root, name, place, program) for name, place in PLACES.items()]


def _placement(root: Path, name: str, place: str, program: str) -> Placement:
    destination = root / place
    try:
        content = (CARRIED / name).read_bytes()
    except OSError as error:
        raise MmdError(f"This installation of mmd-daemon lacks {name} ({error.strerror}); install it again.") from error
    if name.endswith(".service"):
        content = content.replace(USUAL_PROGRAM.encode(), program.encode())
    if destination.is_symlink() and str(destination.readlink()) == "/dev/null":
        raise UsageError(f"{destination} is masked; run `systemctl unmask {name}` first.")
    try:
        present = destination.read_bytes() if destination.exists() else None
    except OSError as error:
        raise MmdError(f"Cannot read {destination} ({error.strerror}); try as root.") from error
    if present is None:
        return Placement(destination, content, Change.NEW)
    return Placement(destination, content, Change.UNCHANGED if present == content else Change.REPLACED)


def place(wanted: Sequence[Placement]) -> None:
    """Write what is new or changed, each file whole or not at all. Raises `MmdError` naming the file that failed."""
    for each in wanted:
        if each.change is Change.UNCHANGED:
            continue
        try:
            durable.make_folder(each.destination.parent)
            durable.write_bytes(each.destination, each.content)
            each.destination.chmod(_FILE_MODE)
        except OSError as error:
            raise MmdError(
                f"Cannot write {each.destination} ({error.strerror}); run it as root, or give another --root."
            ) from error


def next_steps(root: Path, program: str) -> list[str]:
    """Return the commands that make the installed files a running service."""
    init = f"runuser -u mmd -- {program} --state-dir {STATE_FOLDER} init"
    if root == Path("/"):
        return [
            "systemd-sysusers mmd.conf",
            "systemd-tmpfiles --create mmd.conf",
            init,
            "systemctl daemon-reload",
            "systemctl enable --now mmd",
            SERVE_STEP,
        ]
    return [
        f"systemctl --root={root} enable mmd",
        f"{init}   # there, once it has started",
        "systemctl start mmd",
        SERVE_STEP,
    ]


def own_program() -> str:
    """Return the path of the `mmd` that runs now; it is not resolved, for a virtual environment is its links."""
    beside = Path(sys.executable).parent / "mmd"
    return str(beside) if beside.is_file() else shutil.which("mmd") or USUAL_PROGRAM
