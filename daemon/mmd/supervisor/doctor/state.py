"""Is the state folder whole, and may the right people touch it?"""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from mmd.artifact.card import generation_folder, generations, newest_whole_model, read_model
from mmd.artifact.load import open_set
from mmd.errors import ArtifactRefused, DaemonNotRunning, MmdError, StoreDamaged, UsageError
from mmd.samples.database import check_database, open_database
from mmd.sockets import is_answered
from mmd.supervisor.control import ask
from mmd.supervisor.doctor.finding import Finding, Patient, Unseen, note, problem, see
from mmd.supervisor.history import open_history
from mmd.supervisor.hold import held_since
from mmd.supervisor.service import PLACES

LONG_HOLD_SECONDS = 86400.0
_OTHERS = 0o007


def initialised(patient: Patient) -> Iterator[Finding]:
    see(patient.state.root)
    see(patient.state.artifact_set)
    if not patient.state.is_initialised:
        yield problem("not_initialised", f"There is no artifact set in {patient.state.root}.", "Run `mmd init`.")


def permissions(patient: Patient) -> Iterator[Finding]:
    root = patient.state.root
    try:
        status = root.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # there is none yet, which `initialised` says
    owner = _user_name(status.st_uid)
    if os.geteuid() not in (0, status.st_uid):
        yield note(
            "not_your_folder",
            f"{root} belongs to {owner}, so not all of it can be looked at.",
            f"Run `sudo -u {owner} mmd doctor` with the same options to see all.",
        )
    if status.st_mode & _OTHERS:
        yield problem(
            "state_open_to_all",
            f"Everybody on this machine may look into {root}, where the samples lie.",
            f"Run `chmod o= {root}`.",
        )
    see(root)
    strangers = sorted(path.name for path in root.iterdir() if _owner_of(path) not in (None, status.st_uid))
    if strangers:
        yield problem(
            "foreign_files",
            f"{', '.join(strangers)} in {root} do not belong to {owner}: the daemon may fail to write them.",
            f"Run `chown -R {owner}: {root}` as root, and use mmd as {owner} from now on.",
        )


def _owner_of(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def artifact_set(patient: Patient) -> Iterator[Finding]:
    _see_installation(patient, patient.state.artifact_set)
    try:
        open_set(patient.state.artifact_set)
    except ArtifactRefused as error:
        yield problem(
            "set_damaged", str(error), "Run `mmd init` again with the same set: it repairs, and loses nothing."
        )


def sample_store(patient: Patient) -> Iterator[Finding]:
    path = patient.state.samples_db
    _see_installation(patient, path)
    try:
        connection = open_database(path)
        try:
            check_database(connection, path)
        finally:
            connection.close()
    except (StoreDamaged, UsageError) as error:
        yield problem("store_damaged", str(error), "Copy the file away before anything else, then do what it says.")
    except MmdError as error:
        raise Unseen(str(error).rstrip(".")) from None


def models(patient: Patient) -> Iterator[Finding]:
    folder = patient.state.models
    _see_installation(patient, folder)
    serving, complaints = newest_whole_model(folder)
    if serving is None:
        reasons = f": {' '.join(complaints)}" if complaints else "."
        yield problem("no_model", f"No model can serve{reasons}", "Run `mmd init` again: it puts the shipped one back.")
        return
    for number in generations(folder):
        try:
            read_model(generation_folder(folder, number))
        except StoreDamaged as error:
            now = f"Generation {serving.card.generation} serves."
            yield problem(
                "model_damaged",
                f"{error} {now}",
                "Check the disk; remove the folder of a damaged generation that does not serve any more.",
            )


def history(patient: Patient) -> Iterator[Finding]:
    path = patient.state.history_db
    see(path)
    if not path.exists():
        return  # the first daemon makes it
    try:
        found = open_history(path)
        if found is not None:
            with found:
                found.last_state()
    except StoreDamaged as error:
        yield problem("history_damaged", str(error), "Remove the file: only the record of past decisions is lost.")
    except MmdError as error:
        raise Unseen(str(error).rstrip(".")) from None


def daemon(patient: Patient) -> Iterator[Finding]:
    see(patient.state.root)
    try:
        ask(patient.state.control_socket, {"request": "status"})
    except DaemonNotRunning:
        yield note(
            "no_daemon", "No daemon is running: nothing trains.", "Start it: `systemctl start mmd`, or `mmd run`."
        )
    except MmdError as error:
        if isinstance(error.__cause__, PermissionError):
            raise Unseen(f"this user may not talk to the daemon at {patient.state.control_socket}") from None
        yield problem("daemon_does_not_answer", str(error), "Look at `journalctl -u mmd`, then restart it.")
    since = held_since(patient.state)
    if since is not None and patient.now.wall - since > LONG_HOLD_SECONDS:
        days = (patient.now.wall - since) / 86400
        yield note("held_for_long", f"You have held training for {days:.0f} days.", "Run `mmd resume` to end that.")


def _see_installation(patient: Patient, path: Path) -> None:
    """Raise `Unseen` where there is no installation yet, or `path` in it may not be read."""
    see(patient.state.root)
    see(patient.state.artifact_set)
    if not patient.state.is_initialised:
        raise Unseen(f"there is no artifact set in {patient.state.root}")
    see(path, with_all_in_it=True)


def server(patient: Patient) -> Iterator[Finding]:
    """A server that was killed leaves its socket; nobody is meant to have one."""
    path = patient.state.serve_socket
    see(patient.state.root)
    # Where systemd keeps the socket, asking would start the service.
    is_kept = (patient.root / PLACES["mmd-serve.socket"]).exists()
    if not is_kept and path.is_socket() and not is_answered(path):
        yield note(
            "server_gone",
            f"A server listened at {path} and nobody answers there any more.",
            "Run `mmd serve` again, or remove that file if no program asks it.",
        )
