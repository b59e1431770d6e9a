"""How are results put on disk? Raw values as JSON, a table as Markdown, and on what machine they were measured."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mmd import __version__
from mmd.durable import make_folder, write_bytes
from mmd.errors import InputRefused, UsageError

T = TypeVar("T", bound=msgspec.Struct)

PACKAGES = ("onnxruntime-training-cpu", "onnxruntime", "onnx", "numpy", "msgspec")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Under what a bench ran, for whoever wants to run it again."""

    command: str
    artifact_set: str
    artifact_sha256: str
    machine: str
    """The kind of machine, never its name."""
    cores: int
    versions: dict[str, str]


def conditions(command: str, artifact_set: str, artifact_sha256: str) -> Conditions:
    return Conditions(
        command=command,
        artifact_set=artifact_set,
        artifact_sha256=artifact_sha256,
        machine=f"{_processor()}, {platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        versions={"python": platform.python_version(), "mmd-daemon": __version__, **_versions()},
    )


def refuse_others(before: Conditions, now: Conditions, free: str) -> None:
    """Raise `UsageError` unless both ran under the same conditions; options that match `free` may differ."""

    def settings(where: Conditions) -> Conditions:
        return msgspec.structs.replace(where, command=re.sub(free, "", where.command))

    if settings(before) != settings(now):
        raise UsageError(
            f"What is there was made by `{before.command}`, or with another set or other versions; leave out --resume."
        )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write_raw(path: Path, document: msgspec.Struct, *, lines_of: str) -> None:
    """Write `document` as JSON with one line for each entry of its list `lines_of`."""
    fields: dict[str, Any] = {name: getattr(document, name) for name in document.__struct_fields__}
    entries = fields.pop(lines_of)
    head = msgspec.json.format(msgspec.json.encode(fields), indent=1).removesuffix(b"\n}")
    body = b",\n".join(b"  " + msgspec.json.encode(entry) for entry in entries)
    make_folder(path.absolute().parent)
    write_bytes(path.absolute(), b'%s,\n "%s": [\n%s\n ]\n}\n' % (head, lines_of.encode(), body))


def read_raw(path: Path, kind: type[T]) -> T:
    """Read what `write_raw` wrote. Raises `InputRefused` naming the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputRefused(f"Cannot read {path}: {error.strerror}; run the bench without --redraw first.") from error
    except msgspec.DecodeError as error:
        raise InputRefused(f"{path} does not hold this bench's results: {error}; run it again.") from error


def write_text(path: Path, text: str) -> None:
    make_folder(path.absolute().parent)
    write_bytes(path.absolute(), text.encode())
