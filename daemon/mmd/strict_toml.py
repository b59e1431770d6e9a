"""How is a TOML file read into typed structures, so that every mistake in it is named with its file and its key?"""

import math
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from mmd.errors import UsageError

Document = TypeVar("Document", bound=msgspec.Struct)

_LARGEST_FLOAT, _SMALLEST_FLOAT = 3.4028235e38, 1.1754944e-38
"""Of 32 bits, in which the graphs compute; below the smallest one a number is taken for 0."""
_LARGEST_WHOLE = 2**31 - 1


def read_toml(path: Path, kind: type[Document], *, what: str) -> Document:
    """Read `path` as `kind`; `what` names such a file in messages ("configuration", "recipe").

    Raises `UsageError` naming the file and the key, and for an unknown key the nearest known one.
    """
    # Not above: a command without such a file needs no parser, and `mmd status` is to be quick.
    import tomllib

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the {what} {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The {what} {path} is not TOML: {error}.") from error
    _refuse_unknown_keys(document, kind, file=f"The {what} {path}", prefix="")
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"The {what} {path} does not fit: {error}.") from error


def _refuse_unknown_keys(document: Any, kind: Any, *, file: str, prefix: str) -> None:
    """Walk `document` along the types of `kind`: structures, tuples of them, and dictionaries of them."""
    if get_origin(kind) is UnionType:
        kind = next((each for each in get_args(kind) if each is not NoneType), kind)
    if get_origin(kind) is tuple and isinstance(document, list):
        for index, entry in enumerate(document):
            _refuse_unknown_keys(entry, get_args(kind)[0], file=file, prefix=f"{prefix[:-1]}[{index}].")
        return
    if not isinstance(document, dict):
        return
    if get_origin(kind) is dict:
        for key, value in document.items():
            _refuse_unknown_keys(value, get_args(kind)[1], file=file, prefix=f"{prefix}{key}.")
        return
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in document.items():
        if key not in fields:
            raise UsageError(f"{file} has an unknown key `{prefix}{key}`; {_nearest(key, list(fields), prefix)}")
        _refuse_unknown_keys(value, fields[key], file=file, prefix=f"{prefix}{key}.")


def _nearest(key: str, known: list[str], prefix: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{prefix}{near[0]}`?" if near else f"known here: {', '.join(known)}."


def refuse_numbers(document: msgspec.Struct, prefix: str = "") -> None:
    """Raise `UsageError` with the key, below `prefix`, of the first number that the graphs could not compute with."""
    for key, value in _numbers(msgspec.to_builtins(document), prefix):
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"`{key}` is {value}; it must be a finite number.")
        if abs(value) > (_LARGEST_WHOLE if isinstance(value, int) else _LARGEST_FLOAT):
            raise UsageError(f"`{key}` is more than 32 bits hold; give a smaller number.")
        if 0 < abs(value) < _SMALLEST_FLOAT:
            raise UsageError(f"`{key}` is {value:g}, which 32 bits cannot tell from 0; give a larger number.")


def _numbers(document: Any, key: str) -> Iterator[tuple[str, float]]:
    """Yield every number with its key, as `probe[0].weight`."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _numbers(value, f"{key}.{name}" if key else name)
    elif isinstance(document, list | tuple):
        for index, value in enumerate(document):
            yield from _numbers(value, f"{key}[{index}]")
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield key, document
