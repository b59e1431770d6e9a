"""What does one stored sample look like, what is its name, and is it held out?

Imports nothing heavy: the supervisor and `mmd status` use it.
"""

import difflib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from mmd.errors import InputRefused

KNOWN_SHOWN = 12


@dataclass(frozen=True)
class SampleForm:
    """What the artifact set takes; every sample of a store has this form."""

    kind: Literal["image", "tensor"]
    """An image is stored as uint8, a tensor as float32."""
    shape: tuple[int, ...]
    """Without the batch: (channels, height, width) for an image."""
    classes: tuple[str, ...]

    @property
    def dtype(self) -> Literal["uint8", "float32"]:
        return "uint8" if self.kind == "image" else "float32"

    @property
    def content_bytes(self) -> int:
        """Size of one sample's content."""
        return math.prod(self.shape) * (1 if self.kind == "image" else 4)

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> "SampleForm":
        return msgspec.json.decode(text, type=cls)

    def require_class(self, label: str) -> str:
        """Return `label` when the set knows it; raise `InputRefused` naming the nearest known one otherwise."""
        if label in self.classes:
            return label
        near = difflib.get_close_matches(label.lower(), [name.lower() for name in self.classes], n=1)
        if near:
            name = next(name for name in self.classes if name.lower() == near[0])
            raise InputRefused(f"the artifact set knows no label `{label}`; did you mean `{name}`?")
        shown = ", ".join(self.classes[:KNOWN_SHOWN]) + (", ..." if len(self.classes) > KNOWN_SHOWN else "")
        raise InputRefused(f"the artifact set knows no label `{label}`; it knows {shown}.")


def sample_id(content: bytes, form: SampleForm) -> str:
    """Name a sample by its content: hex SHA-256 over type, shape and bytes, so that equal samples have one name."""
    digest = hashlib.sha256(f"{form.dtype} {'x'.join(map(str, form.shape))}\n".encode())
    digest.update(content)
    return digest.hexdigest()


def is_held_out(identifier: str, fraction: float) -> bool:
    """Decide by the name alone whether a sample is held out: stable for ever, whatever else is stored."""
    digest = hashlib.sha256(b"holdout" + identifier.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < fraction


def describe_shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
