"""How do trained parameters become a network that serves? The `mentee.onnx` of the set with the new initializers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import ArtifactSet
from mmd.errors import ArtifactRefused

Floats = NDArray[np.float32]

MEMORY_PREFIX = "mmd.memory/"
"""Of every name that the memory of an owner's samples adds to a network; see `mmd.promotion.memory`."""


def export_model(artifact_set: ArtifactSet, parameters: Mapping[str, Floats]) -> bytes:
    """Return `mentee.onnx` with the Mentee's parameters from `parameters`; projectors stay behind.

    What is returned was parsed again and holds the same bits. Raises `ArtifactRefused` when the network lacks one.
    """
    import onnx
    from onnx import numpy_helper

    manifest = artifact_set.manifest
    model = onnx.load_model(artifact_set.path(manifest.graphs.inference))
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [parameter.name for parameter in manifest.parameters if parameter.role == "mentee"]
    for name in names:
        if name not in initializers:
            raise ArtifactRefused(
                f"{manifest.graphs.inference} has no initializer `{name}` that the manifest names as a parameter; "
                "build the set again with `mmd-tools fuse`."
            )
        initializers[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(parameters[name]), name))
    exported: bytes = model.SerializeToString(deterministic=True)
    _require_same_bits(exported, {name: parameters[name] for name in names})
    return exported


def _require_same_bits(exported: bytes, parameters: Mapping[str, Floats]) -> None:
    import onnx
    from onnx import numpy_helper

    reread = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string(exported).graph.initializer
        if tensor.name in parameters
    }
    for name, value in parameters.items():
        if reread[name].tobytes() != value.tobytes() or reread[name].shape != value.shape:
            raise ArtifactRefused(f"The exported network does not hold the trained `{name}`; it cannot be used.")


def holds_memory(model: bytes) -> bool:
    """Return whether a memory of an owner's samples votes in this network."""
    import onnx

    return any(node.name.startswith(MEMORY_PREFIX) for node in onnx.load_model_from_string(model).graph.node)
