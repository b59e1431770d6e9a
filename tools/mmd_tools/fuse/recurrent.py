"""How are LSTM, GRU and RNN trained? Unrolled, step by step, into products and gates whose gradients are known.

onnxruntime-training has a gradient of its own for them, which no stock runtime runs. Sequence lengths are fixed when a
set is built, so the loop is known; the weights become two matrices and a bias a direction, [features, gates * hidden].
Gates in ONNX's order: LSTM i, o, f, c; GRU z, r, h.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mmd_tools.fuse import edit
from mmd_tools.fuse.rewrite import Unfit

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
MOST_STEPS = 256
"""A longer sequence would make a graph that takes minutes to build and load."""

State = tuple[str, ...]
"""The hidden value, [1, N, hidden], and LSTM's cell after it."""


@dataclass
class _Unrolling:
    """One direction of one node while it is written out."""

    model: onnx.ModelProto
    node: onnx.NodeProto
    prefix: str
    steps: int
    hidden: int

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def emit(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{self.prefix}/{len(self.nodes)}.{index}" for index in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=f"{self.prefix}/{len(self.nodes)}", **attributes)
        )
        return names

    def one(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.emit(op, *inputs, **attributes)[0]

    def constant(self, name: str, value: edit.Array) -> str:
        return edit.add_constant(self.model, name, value)

    def zeros(self, x: str) -> str:
        """The start, [1, N, hidden], for inputs [1, N, ...]."""
        sizes = [self.constant(f"{self.prefix}/{size}", np.array([size], np.int64)) for size in (1, self.hidden)]
        shape = self.one("Concat", sizes[0], self.one("Shape", x, start=1, end=2), sizes[1], axis=0)
        return self.one("ConstantOfShape", shape)

    def parts(self, x: str, count: int) -> list[str]:
        """The gates of one step, [1, N, count * hidden], one by one."""
        if count == 1:
            return [x]
        sizes = edit.add_constant(self.model, f"{self.prefix}/gates", np.full(count, self.hidden, np.int64))
        return self.emit("Split", x, sizes, outputs=count, axis=2)


def unroll(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes that compute what the recurrent `node` does. Raises `Unfit` for what cannot be said so."""
    _refuse(model, node)
    (direction,) = _strings(node, "direction", ["forward"])
    order = {"forward": (False,), "reverse": (True,)}.get(direction, (False, True))
    out = next(name for name in node.output if name)
    nodes: list[onnx.NodeProto] = []
    whole: list[list[str]] = []
    last: list[State] = []
    for index, is_reverse in enumerate(order):
        steps = _steps(model, node)
        weights = edit.array(edit.constants(model)[node.input[2]])
        run = _Unrolling(model, node, f"{out}.{'reverse' if is_reverse else 'forward'}", steps, weights.shape[2])
        values, state = _direction(run, index, is_reverse=is_reverse)
        nodes += run.nodes
        whole.append(values)
        last.append(state)
    return [*nodes, *_outputs(model, node, whole, last)]


def _direction(run: _Unrolling, index: int, *, is_reverse: bool) -> tuple[list[str], State]:
    """Return the hidden value of every step in the order of the sequence, and the state after the last one."""
    step, bias = _prepare(run, index)
    node, steps = run.node, run.steps
    weight = edit.array(edit.constants(run.model)[node.input[1]])[index]
    kind = "reverse" if is_reverse else "forward"
    projected = run.one("MatMul", node.input[0], run.constant(f"{node.input[1]}.{kind}", weight.T.copy()))
    if bias is not None:
        projected = run.one("Add", projected, run.constant(f"{node.input[3]}.{kind}", bias))
    ones = edit.add_constant(run.model, f"{run.prefix}/steps", np.ones(steps, np.int64))
    inputs = run.emit("Split", projected, ones, outputs=steps, axis=0) if steps > 1 else [projected]
    state: State = (run.zeros(inputs[0]),) * (2 if node.op_type == "LSTM" else 1)
    values = [""] * steps
    for at in reversed(range(steps)) if is_reverse else range(steps):
        state = step(inputs[at], state)
        values[at] = state[0]
    return values, state


def _prepare(run: _Unrolling, index: int) -> tuple[Callable[[str, State], State], edit.Array | None]:
    """Return the function that writes one step, and the bias that can be added to all inputs at once."""
    node, hidden = run.node, run.hidden
    kind = run.prefix.rsplit(".", 1)[1]
    recurrent = edit.array(edit.constants(run.model)[node.input[2]])[index].T.copy()
    bias = None
    if len(node.input) > 3 and node.input[3]:
        both = edit.array(edit.constants(run.model)[node.input[3]])[index]
        bias = both[: both.size // 2] + both[both.size // 2 :]
        own = both[both.size // 2 :][-hidden:]
    if node.op_type == "GRU":
        inner = None
        if edit.attribute(node, "linear_before_reset", 0) and bias is not None:
            bias = np.concatenate([bias[:-hidden], bias[-hidden:] - own])
            inner = run.constant(f"{node.input[3]}.{kind}.inner", own.copy())
        gates = run.constant(f"{node.input[2]}.{kind}.gates", recurrent[:, : 2 * hidden].copy())
        value = run.constant(f"{node.input[2]}.{kind}.value", recurrent[:, 2 * hidden :].copy())
        return lambda x, state: _gru(run, x, state, (gates, value, inner)), bias
    matrix = run.constant(f"{node.input[2]}.{kind}", recurrent)
    write = _lstm if node.op_type == "LSTM" else _rnn
    return lambda x, state: write(run, x, state, matrix), bias


def _lstm(run: _Unrolling, x: str, state: State, matrix: str) -> State:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c')"""
    hidden, cell = state
    i, o, f, g = run.parts(run.one("Add", x, run.one("MatMul", hidden, matrix)), 4)
    kept = run.one("Mul", run.one("Sigmoid", f), cell)
    cell = run.one("Add", kept, run.one("Mul", run.one("Sigmoid", i), run.one("Tanh", g)))
    return run.one("Mul", run.one("Sigmoid", o), run.one("Tanh", cell)), cell


def _gru(run: _Unrolling, x: str, state: State, weights: tuple[str, str, str | None]) -> State:
    """h' = (1 - z) tanh(v) + z h; the reset gate r acts on h before its product, or after it with the inner bias."""
    (hidden,), (gates, value, inner) = state, weights
    z_x, r_x, v_x = run.parts(x, 3)
    z_h, r_h = run.parts(run.one("MatMul", hidden, gates), 2)
    z, r = run.one("Sigmoid", run.one("Add", z_x, z_h)), run.one("Sigmoid", run.one("Add", r_x, r_h))
    if edit.attribute(run.node, "linear_before_reset", 0):
        old = run.one("MatMul", hidden, value)
        old = run.one("Mul", r, run.one("Add", old, inner) if inner else old)
    else:
        old = run.one("MatMul", run.one("Mul", r, hidden), value)
    fresh = run.one("Tanh", run.one("Add", v_x, old))
    # (1 - z) v + z h = v + z (h - v)
    return (run.one("Add", fresh, run.one("Mul", z, run.one("Sub", hidden, fresh))),)


def _rnn(run: _Unrolling, x: str, state: State, matrix: str) -> State:
    """h' = tanh(x + h R)"""
    return (run.one("Tanh", run.one("Add", x, run.one("MatMul", state[0], matrix))),)


def _outputs(
    model: onnx.ModelProto, node: onnx.NodeProto, whole: Sequence[Sequence[str]], last: Sequence[State]
) -> list[onnx.NodeProto]:
    """Y [steps, directions, N, hidden], then the last state, [directions, N, hidden] each."""
    nodes: list[onnx.NodeProto] = []
    names = [*node.output, "", "", ""]
    if names[0]:
        axis = edit.add_constant(model, f"{names[0]}.axis", np.array([1], np.int64))
        ways = []
        for way, values in enumerate(whole):
            nodes.append(helper.make_node("Concat", list(values), [f"{names[0]}.{way}.steps"], axis=0))
            ways.append(f"{names[0]}.{way}" if len(whole) > 1 else names[0])
            nodes.append(helper.make_node("Unsqueeze", [f"{names[0]}.{way}.steps", axis], [ways[-1]]))
        if len(ways) > 1:
            nodes.append(helper.make_node("Concat", ways, [names[0]], axis=1))
    for index, name in enumerate(names[1:3]):
        if name:
            nodes.append(helper.make_node("Concat", [state[index] for state in last], [name], axis=0))
    return nodes


def _strings(node: onnx.NodeProto, name: str, default: list[str]) -> list[str]:
    """Return an attribute of one text or several."""
    for entry in node.attribute:
        if entry.name == name:
            return [value.decode() for value in (entry.strings or [entry.s])]
    return default


def _steps(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    values = {value.name: value for value in [*model.graph.value_info, *model.graph.input]}
    dims = edit.dimensions(values[node.input[0]]) if node.input[0] in values else None
    if not dims or not isinstance(dims[0], int):
        raise Unfit(f"{edit.label(node)} runs over a sequence whose length is not fixed; export it with a fixed one.")
    return dims[0]


def _refuse(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Raise `Unfit` for what the unrolled form does not say."""
    tensors = edit.constants(model)
    inputs = [*node.input, *[""] * 8]
    for name in inputs[1:4]:
        if name and name not in tensors:
            raise Unfit(f"{edit.label(node)} takes {name} from the graph; its weights must be constants.")
    if _steps(model, node) > MOST_STEPS:
        raise Unfit(f"{edit.label(node)} runs over {_steps(model, node)} steps; {MOST_STEPS} can be trained.")
    if inputs[4] or inputs[7]:
        raise Unfit(f"{edit.label(node)} has sequence lengths or peepholes; train it without.")
    for name in inputs[5:7]:
        if name and not _is_zero(model, name):
            raise Unfit(f"{edit.label(node)} starts from {name}; only a start at zero can be trained.")
    directions = 2 if _strings(node, "direction", []) == ["bidirectional"] else 1
    usual = ACTIVATIONS[node.op_type] * directions
    if _strings(node, "activations", usual) != usual:
        raise Unfit(f"{edit.label(node)} has activations of its own; only the usual ones can be trained.")
    for name in ("clip", "input_forget", "layout"):
        if edit.attribute(node, name, 0):
            raise Unfit(f"{edit.label(node)} has the attribute {name}; train it without.")


def _is_zero(model: onnx.ModelProto, name: str) -> bool:
    """Whether the tensor is zeros of any size, as exporters write the start of a sequence."""
    tensors = edit.constants(model)
    if name in tensors:
        return not edit.array(tensors[name]).any()
    maker = next((node for node in model.graph.node if name in node.output), None)
    if maker is not None and maker.op_type == "ConstantOfShape":
        value = edit.attribute(maker, "value", None)
        return value is None or not edit.array(value).any()  # type: ignore[arg-type]
    return (
        maker is not None
        and maker.op_type in ("Expand", "Identity", "Slice", "Tile")
        and _is_zero(model, maker.input[0])
    )
