"""How does a recording of any rate and length become the stored one? `resample.onnx`, in plain operators.

Resampling is band-limited interpolation (J. O. Smith, "Digital Audio Resampling", ccrma.stanford.edu/~jos/resample):
a sinc under a Blackman window, cut off below the lower of both Nyquist frequencies. The output is computed in blocks:
the phases of the filter repeat, so every block of inputs is multiplied with one and the same matrix, which the graph
makes from the two numbers of the ratio. At equal rates the recording passes unchanged.

Then the loudest stretch of the set's length is found and moved until the centre of its energy is its middle; outside
the recording there is silence. So a word lands in the same place however long somebody waited before it.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mmd.artifact.preprocess import Resampler
from mmd_tools.recipe import AudioRecipe

OPSET, IR_VERSION = 17, 9
ZERO_CROSSINGS = 32
"""Of the sinc, on each side of its middle."""
ROLLOFF = 0.95
"""The cutoff as a share of the lower Nyquist frequency; what lies between is weakened."""
BLOCK = 64
"""Outputs that are computed at once, at least."""
FULL_SCALE = 32768.0
BLACKMAN = (0.42, 0.5, 0.08)


def recipe_resampler(audio: AudioRecipe) -> Resampler:
    """Return what a set of this recipe will store recordings with."""
    return Resampler(resample_graph(audio.length).SerializeToString(), audio.rate_hz)


class _Graph:
    """Collects nodes; every method gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op_type: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def whole(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float64))

    def count(self, tensor: str) -> str:
        return self("Squeeze", self("Shape", tensor), self.whole(0))

    def to(self, tensor: str, kind: int, out: str | None = None) -> str:
        return self("Cast", tensor, out=out, to=kind)

    def double(self, tensor: str) -> str:
        return self.to(tensor, TensorProto.DOUBLE)

    def one(self, tensor: str) -> str:
        """A scalar as [1], as Slice and Pad take it."""
        return self("Reshape", tensor, self.whole(1))

    def range(self, end: str) -> str:
        return self("Range", self.scalar(0), end, self.scalar(1))

    def cos(self, angle: str) -> str:
        # onnxruntime has Sin for doubles, and no Cos.
        return self("Sin", self("Add", angle, self.number(np.pi / 2)))

    def scalar(self, value: int) -> str:
        return self.constant(np.array(value, np.int64))

    def ceil_div(self, top: str, bottom: str) -> str:
        return self("Div", self("Sub", self("Add", top, bottom), self.scalar(1)), bottom)

    def pad(self, tensor: str, before: str, after: str) -> str:
        return self("Pad", tensor, self("Concat", self.one(before), self.one(after), axis=0))

    def slice(self, tensor: str, start: str, end: str) -> str:
        return self("Slice", tensor, self.one(start), self.one(end), self.whole(0))


def resample_graph(length: int) -> onnx.ModelProto:
    """Return the graph: `waveform` float32 [T], `up` and `down` int64 [] in, `stored` int16 [`length`] out.

    `up` / `down` is the set's rate over the recording's, in lowest terms.
    """
    graph = _Graph()
    resampled = _resampled(graph)
    fitted = _fitted(graph, resampled, length)
    scaled = graph("Mul", fitted, graph.constant(np.array(FULL_SCALE, np.float32)))
    limits = [graph.constant(np.array(limit, np.float32)) for limit in (-FULL_SCALE, FULL_SCALE - 1)]
    graph.to(graph("Clip", graph("Round", scaled), *limits), TensorProto.INT16, out="stored")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "resample",
            [
                helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["samples"]),
                helper.make_tensor_value_info("up", TensorProto.INT64, []),
                helper.make_tensor_value_info("down", TensorProto.INT64, []),
            ],
            [helper.make_tensor_value_info("stored", TensorProto.INT16, [length])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


def _resampled(graph: _Graph) -> str:
    """Return the recording at the set's rate, float32 [ceil(T up / down)]."""
    up, down = "up", "down"
    blocks = graph.ceil_div(graph.scalar(BLOCK), up)
    outputs, inputs = graph("Mul", up, blocks), graph("Mul", down, blocks)
    step = graph("Div", graph.double(down), graph.double(up))
    cutoff = _cutoff(graph, step)
    half = graph("Div", graph.number(ZERO_CROSSINGS), cutoff)
    reach = graph.to(graph("Ceil", half), TensorProto.INT64)
    taps = graph("Add", inputs, graph("Add", graph("Add", reach, reach), graph.scalar(1)))
    matrix = _filter_matrix(graph, step, cutoff, half, reach, taps, outputs)
    time = graph.count("waveform")
    length = graph.ceil_div(graph("Mul", time, up), down)
    count = graph.ceil_div(length, outputs)
    after = graph("Sub", graph("Add", graph("Mul", count, inputs), graph("Add", reach, graph.scalar(1))), time)
    padded = graph.pad("waveform", reach, after)
    starts = graph("Unsqueeze", graph("Mul", graph.range(count), inputs), graph.whole(1))
    frames = graph("Gather", padded, graph("Add", starts, graph.range(taps)))
    flat = graph("Reshape", graph("MatMul", frames, matrix), graph.whole(-1))
    return graph.slice(flat, graph.scalar(0), length)


def _cutoff(graph: _Graph, step: str) -> str:
    """Return the cutoff in shares of the input's Nyquist frequency; 1 where nothing is to be resampled."""
    one = graph.number(1.0)
    lower = graph("Mul", graph("Min", one, graph("Div", one, step)), graph.number(ROLLOFF))
    return graph("Where", graph("Equal", "up", "down"), one, lower)


def _filter_matrix(graph: _Graph, step: str, cutoff: str, half: str, reach: str, taps: str, outputs: str) -> str:
    """Return [taps, outputs], float32: what each input of a block adds to each output; every column sums to 1."""
    places = graph("Mul", graph.double(graph.range(outputs)), step)
    indices = graph("Unsqueeze", graph.double(graph("Sub", graph.range(taps), reach)), graph.whole(1))
    distance = graph("Sub", places, indices)
    angle = graph("Mul", graph("Mul", distance, cutoff), graph.number(np.pi))
    is_middle = graph("Less", graph("Abs", angle), graph.number(1e-9))
    safe = graph("Where", is_middle, graph.number(1.0), angle)
    sinc = graph("Where", is_middle, graph.number(1.0), graph("Div", graph("Sin", safe), safe))
    turn = graph("Div", graph("Mul", distance, graph.number(np.pi)), half)
    window = graph("Add", graph.number(BLACKMAN[0]), graph("Mul", graph.cos(turn), graph.number(BLACKMAN[1])))
    twice = graph.cos(graph("Add", turn, turn))
    window = graph("Add", window, graph("Mul", twice, graph.number(BLACKMAN[2])))
    is_inside = graph("Less", graph("Abs", distance), half)
    weights = graph("Where", is_inside, graph("Mul", sinc, window), graph.number(0.0))
    total = graph("ReduceSum", weights, graph.whole(0), keepdims=1)
    return graph.to(graph("Div", weights, total), TensorProto.FLOAT)


def _fitted(graph: _Graph, waveform: str, length: int) -> str:
    """Return [length]: the loudest stretch, with the centre of its energy in the middle."""
    size = graph.scalar(length)
    short = graph("Max", graph("Sub", size, graph.count(waveform)), graph.scalar(0))
    whole = graph.pad(waveform, graph.scalar(0), short)
    power = graph("Mul", graph.double(whole), graph.double(whole))
    sums = graph("CumSum", graph.pad(power, graph.scalar(1), graph.scalar(0)), graph.scalar(0))
    last = graph("Add", graph("Sub", graph.count(whole), size), graph.scalar(1))
    ends = graph.slice(sums, size, graph("Add", size, last))
    energies = graph("Sub", ends, graph.slice(sums, graph.scalar(0), last))
    loudest = graph("Squeeze", graph("ArgMax", energies, axis=0, keepdims=1), graph.whole(0))
    inside = graph.slice(power, loudest, graph("Add", loudest, size))
    offsets = graph("Sub", graph.double(graph.range(size)), graph.number((length - 1) / 2))
    total = graph("Max", graph("ReduceSum", inside, keepdims=0), graph.number(1e-30))
    shift = graph("Div", graph("ReduceSum", graph("Mul", inside, offsets), keepdims=0), total)
    start = graph("Add", graph("Add", loudest, graph.to(graph("Round", shift), TensorProto.INT64)), size)
    framed = graph.pad(whole, size, size)
    return graph.slice(framed, start, graph("Add", start, size))
