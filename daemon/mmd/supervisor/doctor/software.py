"""Is the software right: the configuration, the runtime that trains, the service?"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmd.supervisor.doctor.finding import Finding, Patient, note, problem
from mmd.supervisor.service import CARRIED, PLACES, STATE_FOLDER, UNIT_NAME

RUNTIMES = ("onnxruntime", "onnxruntime-training", "onnxruntime-training-cpu", "onnxruntime-gpu")
HARDENING = (
    "Capability",
    "DevicePolicy",
    "IPAddress",
    "Keyring",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "Private",
    "Protect",
    "ReadWrite",
    "RemoveIPC",
    "Restrict",
    "SystemCall",
    "User",
)
"""Settings that begin like this keep the service in."""
PACKAGED_UNITS = ("usr/lib/systemd/system", "lib/systemd/system")


def configuration(patient: Patient) -> Iterator[Finding]:
    if patient.config_error is not None:
        yield problem(
            "configuration_refused",
            patient.config_error,
            "Correct that line. A daemon that runs keeps what it had, and files wait in the inbox; none can start.",
        )


def engine(patient: Patient) -> Iterator[Finding]:
    installed = [name for name in RUNTIMES if _is_installed(name)]
    wanted = patient.config.training.engine
    if importlib.util.find_spec("onnxruntime") is None:
        yield problem(
            "no_runtime", "onnxruntime is not installed: nothing can train.", "Install mmd-daemon again by pip."
        )
    elif len(installed) > 1:
        yield problem(
            "two_runtimes",
            f"{' and '.join(installed)} are installed over each other: they share one folder.",
            f"Run `pip uninstall {' '.join(installed)}` and install mmd-daemon again: it brings the right one.",
        )
    elif wanted == "ort_training" and not any("training" in name for name in installed):
        yield problem(
            "wrong_engine",
            "`training.engine` is `ort_training`, and this Python has only the stock onnxruntime.",
            "Set `training.engine` to `auto`: the portable engine trains on the stock runtime.",
        )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def service(patient: Patient) -> Iterator[Finding]:
    if not (patient.root / "run/systemd/system").is_dir():
        yield note(
            "no_systemd",
            "systemd does not run this machine, so nothing watches the daemon or keeps it in.",
            "Have another supervisor start `mmd run` and start it again when it ends.",
        )
        return
    unit = _installed_unit(patient.root)
    if unit is None:
        find = problem if patient.state.root == Path(STATE_FOLDER) else note
        yield find(
            "service_not_installed",
            f"{UNIT_NAME} is not installed: the daemon does not start with the board.",
            "Run `mmd install-service` as root.",
        )
        return
    yield from _judged(patient.root, unit)


def _installed_unit(root: Path) -> Path | None:
    places = [root / PLACES[UNIT_NAME], *(root / folder / UNIT_NAME for folder in PACKAGED_UNITS)]
    return next((place for place in places if place.is_file()), None)


def _judged(root: Path, unit: Path) -> Iterator[Finding]:
    shipped = settings([CARRIED / UNIT_NAME])
    drop_ins = sorted((root / f"{PLACES[UNIT_NAME]}.d").glob("*.conf"))
    installed = settings([unit, *drop_ins])
    weaker = sorted(name for name in shipped if name.startswith(HARDENING) and installed.get(name) != shipped[name])
    if weaker:
        yield problem(
            "service_not_hardened",
            f"{unit.name} as installed differs from the shipped one in what keeps it in: {', '.join(weaker)}.",
            "Run `mmd install-service` as root, and look at what "
            f"{'changes it: ' + ', '.join(path.name for path in drop_ins) if drop_ins else 'was edited'}.",
        )
    program = (installed.get("ExecStart") or ("",))[-1].split(" ", 1)[0]
    if not (root / program.lstrip("/")).is_file():
        yield problem(
            "service_program_missing",
            f"{unit.name} starts {program or 'nothing'}, which is not there.",
            "Install mmd there, or run `mmd install-service` with the mmd that is to be started.",
        )


def settings(files: list[Path]) -> Mapping[str, tuple[str, ...]]:
    """Return what the files say, one after the other: as for systemd a later value replaces, or adds to a list."""
    found: dict[str, tuple[str, ...]] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, sign, value = (part.strip() for part in line.partition("="))
            if not sign or name.startswith(("#", ";", "[")):
                continue
            is_list = name in ("SystemCallFilter", "ExecStart", "Environment")
            found[name] = (*found.get(name, ()), value) if is_list and value else (value,)
    return found
