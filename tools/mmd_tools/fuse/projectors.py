"""Where does a projector start? Where it maps the Mentee's features best onto the Mentor's, on the replay samples.

From random numbers the first hundred steps of a round would pull the Mentee's features towards a projector that means
nothing yet, and a round on one owner's samples has not many more.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mmd_tools.fuse.calibration import Moments
from mmd_tools.fuse.probes import Probe, projector_start

RIDGE = 1e-2
"""Added to the diagonal of the Mentee's second moments, as a share of their mean."""

Floats = NDArray[np.float32]


def fit_projectors(probes: Sequence[Probe], moments: Mapping[int, Moments], seed: int) -> dict[str, Floats]:
    """Return the ridge regression (Hoerl & Kennard, 1970) of every projector by name, over samples and places.

    A Mentee whose features are all 0 or not finite gives `projector_start`.
    """
    return {
        probe.projector: _solve(probe, moments[probe.index], seed) for probe in probes if probe.projector is not None
    }


def start_at(model: onnx.ModelProto, values: dict[str, Floats]) -> None:
    """Give the initializers that `values` names those values."""
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))


def _solve(probe: Probe, moments: Moments, seed: int) -> Floats:
    moment, product = moments.our_products, moments.mixed_products
    ridge = RIDGE * np.trace(moment) / len(moment)
    start = projector_start(probe, seed)
    if not (ridge > 0 and moments.is_finite):
        return start
    weight = np.linalg.solve(moment + ridge * np.eye(len(moment)), product)
    return np.ascontiguousarray(weight if start.ndim == 2 else weight.T.reshape(start.shape), np.float32)
