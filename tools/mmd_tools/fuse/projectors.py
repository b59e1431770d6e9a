"""Where does a projector start? Where it maps the Mentee's features best onto the Mentor's, on the replay samples.

From random numbers the first hundred steps of a round would pull the Mentee's features towards a projector that means
nothing yet, and a round on one owner's samples has not many more.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mmd.artifact.load import normalise
from mmd.artifact.manifest import InputSpec
from mmd.artifact.session import open_session
from mmd_tools.fuse import edit
from mmd_tools.fuse.graphs import MENTOR_PREFIX, mentor_model, mentor_outputs
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import IR_VERSION, OPSET, Network
from mmd_tools.fuse.probes import Probe, aligned, projector_start

RIDGE = 1e-2
"""Added to the diagonal of the Mentee's second moments, as a share of their mean."""
_BATCH = 32
_MOST_SAMPLES = 1024

Floats = NDArray[np.float32]


def fit_projectors(
    mentor: Network, mentee: Network, probes: Sequence[Probe], replay: NDArray[np.generic], spec: InputSpec, seed: int
) -> dict[str, Floats]:
    """Return the ridge regression (Hoerl & Kennard, 1970) of every projector by name, over samples and places.

    `replay` [n, *shape] is as stored. A Mentee whose features are all 0 or not finite gives `projector_start`.
    """
    fitted = [probe for probe in probes if probe.projector is not None]
    if not fitted:
        return {}
    model, names = _features(mentor, mentee, fitted)
    session = open_session(model.SerializeToString())
    width = [probe.mentee_shape[0] for probe in fitted]
    moments = [np.zeros((ours, ours)) for ours in width]
    products = [np.zeros((probe.mentee_shape[0], probe.mentor_shape[0])) for probe in fitted]
    for at in range(0, min(len(replay), _MOST_SAMPLES), _BATCH):
        batch = normalise(replay[at : at + _BATCH], spec)
        for index, (ours, theirs) in enumerate(names):
            rows, targets = (_rows(values) for values in session.run([ours, theirs], {mentee.input: batch}))
            moments[index] += rows.T @ rows
            products[index] += rows.T @ targets
    solved = zip(fitted, moments, products, strict=True)
    return {str(probe.projector): _solve(probe, moment, product, seed) for probe, moment, product in solved}


def start_at(model: onnx.ModelProto, values: dict[str, Floats]) -> None:
    """Give the initializers that `values` names those values."""
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))


def _features(
    mentor: Network, mentee: Network, probes: Sequence[Probe]
) -> tuple[onnx.ModelProto, list[tuple[str, str]]]:
    """Return both networks in one graph, and the two tensors of each probe, brought to one height and width."""
    frozen = mentor_model(mentor, mentee.input, mentor_outputs(mentor, probes))
    nodes = Nodes("fit/")
    names = [aligned(nodes, probe, f"{MENTOR_PREFIX}{probe.mentor}") for probe in probes]
    own = mentee.model.graph
    shown = dict.fromkeys(name for pair in names for name in pair)
    graph = helper.make_graph(
        [*own.node, *frozen.graph.node, *nodes.nodes],
        "features",
        list(own.input),
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in shown],
        [*own.initializer, *frozen.graph.initializer, *nodes.initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    edit.remove_dead(model)
    return model, names


def _rows(values: Floats) -> NDArray[np.float64]:
    """[n, features] as it is; [n, channels, height, width] as [n * height * width, channels]."""
    if values.ndim == 4:
        values = values.transpose(0, 2, 3, 1).reshape(-1, values.shape[1])
    return values.astype(np.float64)


def _solve(probe: Probe, moment: NDArray[np.float64], product: NDArray[np.float64], seed: int) -> Floats:
    ridge = RIDGE * np.trace(moment) / len(moment)
    if not (ridge > 0 and np.isfinite(moment).all() and np.isfinite(product).all()):
        return projector_start(probe, seed)
    weight = np.linalg.solve(moment + ridge * np.eye(len(moment)), product)
    if len(probe.mentee_shape) == 3:
        weight = weight.T[:, :, None, None]
    return np.ascontiguousarray(weight, np.float32)
