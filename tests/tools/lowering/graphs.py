"""How does a drawn case become a training graph and a lowered one, and how is each run?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.tools.lowering.cases import Arrays, Case

from mmd.artifact.manifest import OptimizerSpec
from mmd.artifact.session import open_session
from mmd_tools.fuse.gradients import training_files
from mmd_tools.fuse.graphs import ForwardGraph
from mmd_tools.lowering import lower

OPSET = 17


@dataclass(frozen=True)
class Built:
    """A case with its training graph, its lowered graph and what to feed them."""

    training: onnx.ModelProto
    lowered: onnx.ModelProto
    inputs: Arrays
    parameters: Arrays

    def gradients_of_training_build(self) -> tuple[float, Arrays]:
        """Run onnxruntime-training's own graph."""
        buffers = {f"{name}_grad.accumulation.buffer": np.zeros_like(v) for name, v in self.parameters.items()}
        feed = {**self.inputs, **self.parameters, **buffers, "lazy_reset_grad": np.array([True])}
        session = open_session(self.training.SerializeToString())
        loss = _run(session, ["loss"], feed)[0]
        return float(loss), {name: buffers[f"{name}_grad.accumulation.buffer"] for name in self.parameters}

    def lowered_session(self) -> ort.InferenceSession:
        return open_session(self.lowered.SerializeToString())

    def gradients(self, session: ort.InferenceSession) -> tuple[float, Arrays]:
        loss, *gradients = self._run_lowered(session, ["loss", *(f"{p}.grad" for p in self.parameters)], {})
        return float(loss), dict(zip(self.parameters, gradients, strict=True))

    def loss(self, session: ort.InferenceSession, parameters: Arrays) -> float:
        return float(self._run_lowered(session, ["loss"], parameters)[0])

    def _run_lowered(self, session: ort.InferenceSession, outputs: list[str], parameters: Arrays) -> list[NDArray[Any]]:
        moments = {f"{p}.{m}": np.zeros_like(v) for p, v in self.parameters.items() for m in ("m1", "m2")}
        rates = ("learning_rate", "weight_decay", "clip_norm")
        scalars = {name: np.array(0.0, np.float32) for name in rates} | {"step": np.array(1, np.int64)}
        return _run(session, outputs, {**self.inputs, **self.parameters, **parameters, **moments, **scalars})


def build(case: Case) -> Built:
    """Make the loss (unless the case has its own), the gradient graph and the lowered graph."""
    nodes, inputs = list(case.nodes), dict(case.inputs)
    if case.loss is None:
        shape = _forward(case).shape
        inputs["weighting"] = np.random.default_rng(7).uniform(0.5, 1.5, shape).astype(np.float32)
        inputs["weighting"] *= np.where(np.random.default_rng(8).random(shape) < 0.5, -1, 1).astype(np.float32)
        nodes.append(helper.make_node("Mul", ["y", "weighting"], ["weighted"], name="weigh"))
        nodes.append(helper.make_node("ReduceSum", ["weighted"], ["loss"], keepdims=0, name="total"))
    model = _model(nodes, inputs, {**case.parameters, **case.constants}, "loss", [])
    training = training_files(ForwardGraph(model, tuple(case.parameters)), OptimizerSpec()).training
    lowered = lower(training, list(case.parameters), OptimizerSpec())
    onnx.checker.check_model(lowered)
    return Built(training, lowered, inputs, dict(case.parameters))


def _forward(case: Case) -> NDArray[Any]:
    model = _model(case.nodes, case.inputs, {**case.parameters, **case.constants}, "y", None)
    return _run(open_session(model.SerializeToString()), ["y"], case.inputs)[0]


def _model(nodes: Any, inputs: Arrays, constants: Arrays, output: str, shape: list[int] | None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "case",
        [_value(name, array) for name, array in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _value(name: str, array: NDArray[Any]) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, dtype, ["N", *array.shape[1:]])


def _run(session: ort.InferenceSession, outputs: list[str], feed: Arrays) -> list[NDArray[Any]]:
    wanted = {value.name for value in session.get_inputs()}
    results: list[NDArray[Any]] = session.run(outputs, {name: array for name, array in feed.items() if name in wanted})
    return results
