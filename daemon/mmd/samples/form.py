"""What does one stored sample look like, what is its name, and is it held out?

Imports nothing heavy: the supervisor and `mmd status` use it.
"""

import difflib
import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from mmd.errors import InputRefused

KNOWN_SHOWN = 12
Kind = Literal["image", "tensor", "audio"]
_TYPES: dict[Kind, tuple[Literal["uint8", "float32", "int16"], int]] = {
    "image": ("uint8", 1),
    "tensor": ("float32", 4),
    "audio": ("int16", 2),
}


class SampleForm(msgspec.Struct, frozen=True):
    """What the artifact set takes; every sample of a store has this form."""

    kind: Kind
    """An image is stored as uint8, a tensor as float32, a recording as int16."""
    shape: tuple[int, ...]
    """Without the batch: (channels, height, width) for an image, (length,) for a recording."""
    classes: tuple[str, ...]
    rate_hz: float = 0.0
    """Of a recording or a window of measurements; 0 where there is no such thing."""
    spare: int = 0
    """Classes that the owner may name beside those that the set brings."""

    @property
    def dtype(self) -> Literal["uint8", "float32", "int16"]:
        return _TYPES[self.kind][0]

    @property
    def content_bytes(self) -> int:
        """Size of one sample's content."""
        return math.prod(self.shape) * _TYPES[self.kind][1]

    @property
    def described(self) -> str:
        return f"{self.kind} {describe_shape(self.shape)}" + (f" at {self.rate_hz:g} Hz" if self.rate_hz else "")

    def holds_the_same_as(self, other: "SampleForm") -> bool:
        """Return whether samples of one are samples of the other; the classes may differ."""
        return (self.kind, self.shape, self.rate_hz) == (other.kind, other.shape, other.rate_hz)

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> "SampleForm":
        return msgspec.json.decode(text, type=cls)

    def require_new_class(self, name: str) -> None:
        """Raise `InputRefused` when `name` is a class already, or cannot be one: it may become a folder's name."""
        if name in self.classes:
            raise InputRefused(f"`{name}` is a class already.")
        if not name.strip() or not name.isprintable() or "/" in name or name.startswith("."):
            raise InputRefused(f"`{name}` cannot be the name of a class: it needs printable letters, and no slash.")

    def require_class(self, label: str) -> str:
        """Return `label` when the set knows it; raise `InputRefused` naming the nearest known one otherwise."""
        if label in self.classes:
            return label
        near = difflib.get_close_matches(label.lower(), [name.lower() for name in self.classes], n=1)
        if near:
            name = next(name for name in self.classes if name.lower() == near[0])
            raise InputRefused(f"the artifact set knows no label `{label}`; did you mean `{name}`?")
        more = "; to name a new class: mmd label --new" if self.spare else ""
        shown = ", ".join(self.classes[:KNOWN_SHOWN]) + (", ..." if len(self.classes) > KNOWN_SHOWN else "")
        raise InputRefused(f"the artifact set knows no label `{label}`; it knows {shown}{more}.")


def with_own_classes(form: SampleForm, own: Sequence[str]) -> SampleForm:
    """Return `form` with the classes that the owner named behind those of the set: the order of the outputs."""
    return msgspec.structs.replace(form, classes=(*form.classes, *own))


def sample_id(content: bytes, form: SampleForm) -> str:
    """Name a sample by its content, so that equal samples have one name: hex SHA-256 of type, shape, rate and bytes."""
    rate = f" {form.rate_hz:g} Hz" if form.rate_hz else ""
    digest = hashlib.sha256(f"{form.dtype} {'x'.join(map(str, form.shape))}{rate}\n".encode())
    digest.update(content)
    return digest.hexdigest()


def is_held_out(identifier: str, fraction: float) -> bool:
    """Decide by the name alone whether a sample is held out: stable for ever, whatever else is stored."""
    digest = hashlib.sha256(b"holdout" + identifier.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < fraction


def describe_shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def describe_start(start: bytes) -> str:
    """Say what a file of another kind begins with."""
    if not start:
        return "the file is empty"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "its content looks like text"
    return f"it begins with bytes {start[:4].hex(' ')}"
