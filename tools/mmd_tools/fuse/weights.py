"""Where do the Mentor's weights lie? Once in the set, in `mentor.data`; every graph that holds them points there."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import onnx

from mmd_tools.fuse import edit

MENTOR_DATA = "mentor.data"
_SMALLEST = 1024
"""Bytes; a smaller tensor stays in its graph."""
_ALIGNMENT = 64


@dataclass
class SharedWeights:
    """The content of `mentor.data`, found again by the hash of each tensor's bytes."""

    data: bytearray = field(default_factory=bytearray)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, model: onnx.ModelProto) -> None:
        """Move the large initializers of `model` here."""
        for tensor in model.graph.initializer:
            content = _content(tensor)
            if len(content) < _SMALLEST:
                continue
            digest = _digest(tensor, content)
            if digest not in self.places:
                self.data.extend(b"\0" * (-len(self.data) % _ALIGNMENT))
                self.places[digest] = (len(self.data), len(content))
                self.data.extend(content)
        self.point(model)

    def point(self, model: onnx.ModelProto) -> None:
        """Let the initializers of `model` that are here point here instead of holding their bytes."""
        for tensor in model.graph.initializer:
            content = _content(tensor)
            place = self.places.get(_digest(tensor, content))
            if place is None:
                continue
            for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(name)
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", MENTOR_DATA), ("offset", place[0]), ("length", place[1])):
                tensor.external_data.add(key=key, value=str(value))


def _content(tensor: onnx.TensorProto) -> bytes:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return b""
    return tensor.raw_data or np.ascontiguousarray(edit.array(tensor)).tobytes()


def _digest(tensor: onnx.TensorProto, content: bytes) -> str:
    return f"{tensor.data_type}:{list(tensor.dims)}:{hashlib.sha256(content).hexdigest()}"
