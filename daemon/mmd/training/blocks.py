"""In blocks of how many channels does this processor's onnxruntime compute convolutions? Found out by trying.

onnxruntime has operators of its own for a layout [n, C / block, *spatial, block] (domain `com.microsoft.nchwc`). They
are an internal matter of the runtime: the block depends on the processor, and a later release may drop them. So the
board tries them once, on a convolution whose result it knows, and does without them when anything is not as expected.
"""

from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused

DOMAIN = "com.microsoft.nchwc"
_KNOWN_BLOCKS = (8, 16)
_CHANNELS = 32


@cache
def block_size() -> int | None:
    """Return the channels of a block, or None where the blocked operators are missing or do not do as they should."""
    numbers = np.arange(_CHANNELS * 2, dtype=np.float32).reshape(1, _CHANNELS, 1, 2)
    reordered = _run([helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)], {"x": numbers})
    if reordered is None:
        return None
    for block in _KNOWN_BLOCKS:
        expected = numbers.reshape(1, _CHANNELS // block, block, 1, 2).transpose(0, 1, 3, 4, 2)
        if np.array_equal(reordered.ravel(), expected.ravel()):
            return block if _convolves(block) else None
    return None


def _convolves(block: int) -> bool:
    """Compare a blocked convolution and ReLU with a plain one."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, _CHANNELS, 5, 5)).astype(np.float32)
    w = generator.standard_normal((_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
    parts = w.reshape(_CHANNELS // block, block, _CHANNELS // block, block, 3, 3)
    blocked_w = np.ascontiguousarray(parts.transpose(0, 2, 4, 5, 3, 1)).reshape(w.shape)
    window: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    blocked = _run(
        [
            helper.make_node("ReorderInput", ["x"], ["in"], domain=DOMAIN),
            helper.make_node("Conv", ["in", "w"], ["out"], domain=DOMAIN, activation="Relu", **window),
            helper.make_node("ReorderOutput", ["out"], ["y"], domain=DOMAIN, channels=_CHANNELS),
        ],
        {"x": x, "w": blocked_w},
    )
    plain = _run(
        [helper.make_node("Conv", ["x", "w"], ["out"], **window), helper.make_node("Relu", ["out"], ["y"])],
        {"x": x, "w": w},
    )
    return blocked is not None and plain is not None and bool(np.allclose(blocked, plain, atol=1e-3))


def _run(nodes: list[onnx.NodeProto], inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """Return `y`, or None when the runtime does not know the operators."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in inputs.items()]
    graph = helper.make_graph(nodes, "probe", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    try:
        session = open_session(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
        return np.asarray(session.run(["y"], inputs)[0])
    except ArtifactRefused:
        return None
    except Exception as error:  # the runtime's exceptions share no base class; nothing but its refusal can arrive here
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
