"""What would PyTorch compute? An ONNX network evaluated in PyTorch, so that its autograd can be compared with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from mmd.training.engine import UNLABELLED, Batch, LossWeights

Attributes = Mapping[str, Any]

# These tensors are small: a second thread costs more than it brings.
torch.set_num_threads(1)


def parameters_of(start: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}


def forward(model: onnx.ModelProto, parameters: Mapping[str, Tensor], inputs: np.ndarray) -> Tensor:
    """Return the logits [N, classes] of the network with these parameters in place of its own."""
    tensors = {entry.name: torch.tensor(numpy_helper.to_array(entry)) for entry in model.graph.initializer}
    tensors.update(parameters)
    tensors[model.graph.input[0].name] = torch.tensor(inputs)
    for node in model.graph.node:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        taken = [tensors[name] if name else None for name in node.input]
        result = OPERATORS[node.op_type](taken, attributes)
        outputs = [result] if isinstance(result, Tensor) else result
        tensors.update(zip(node.output, outputs, strict=True))
    return tensors[model.graph.output[0].name]


def loss(logits: Tensor, batch: Batch, mentor_logits: np.ndarray, weights: LossWeights) -> Tensor:
    """alpha CE + gamma T^2 KL, written out as docs/architecture.md has it."""
    labels = torch.tensor(batch.labels)
    known = labels != UNLABELLED
    label = functional.cross_entropy(logits[known], labels[known]) if bool(known.any()) else logits.sum() * 0
    t = weights.temperature
    soft = functional.kl_div(
        functional.log_softmax(logits / t, dim=1),
        functional.softmax(torch.tensor(mentor_logits) / t, dim=1),
        reduction="batchmean",
    )
    return weights.alpha * label + weights.gamma * t * t * soft


def _convolution(taken: Sequence[Any], a: Attributes) -> Tensor:
    x, weight, *bias = taken
    rank = weight.ndim - 2
    pads = list(a.get("pads", [0] * 2 * rank))
    # functional.pad wants the last axis first, and begins beside their ends.
    around = [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)]
    convolve = functional.conv1d if rank == 1 else functional.conv2d
    options = {"stride": a.get("strides", [1] * rank), "dilation": a.get("dilations", [1] * rank)}
    padded = functional.pad(x, around)
    return convolve(padded, weight, bias[0] if bias else None, groups=a.get("group", 1), **options)


def _max_pool(taken: Sequence[Any], a: Attributes) -> Tensor:
    rank = len(a["kernel_shape"])
    pads = list(a.get("pads", [0] * 2 * rank))
    around = [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)]
    pool = functional.max_pool1d if rank == 1 else functional.max_pool2d
    padded = functional.pad(taken[0], around, value=float("-inf"))
    return pool(padded, a["kernel_shape"], stride=a.get("strides", [1] * rank))


def _average_pool(taken: Sequence[Any], a: Attributes) -> Tensor:
    assert not any(a.get("pads", [])), "no family pads an average"
    return functional.avg_pool2d(taken[0], a["kernel_shape"], stride=a.get("strides"))


def _gemm(taken: Sequence[Any], a: Attributes) -> Tensor:
    x = taken[0].T if a.get("transA") else taken[0]
    weight = taken[1].T if a.get("transB") else taken[1]
    product = a.get("alpha", 1.0) * (x @ weight)
    return product + a.get("beta", 1.0) * taken[2] if len(taken) > 2 else product


def _reshape(taken: Sequence[Any], a: Attributes) -> Tensor:
    x, target = taken[0], [int(size) for size in taken[1]]
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(target)])


def _slice(taken: Sequence[Any], a: Attributes) -> Tensor:
    x, starts, ends, *rest = taken
    axes = rest[0] if rest else torch.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else torch.ones_like(starts)
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(where)]


def _split(taken: Sequence[Any], a: Attributes) -> list[Tensor]:
    return list(torch.split(taken[0], [int(size) for size in taken[1]], dim=a.get("axis", 0)))


def _mean(taken: Sequence[Any], a: Attributes) -> Tensor:
    return taken[0].mean(dim=tuple(a["axes"]), keepdim=bool(a.get("keepdims", 1)))


def _layer_norm(taken: Sequence[Any], a: Attributes) -> Tensor:
    axis = a.get("axis", -1)
    return functional.layer_norm(taken[0], taken[0].shape[axis:], taken[1], taken[2], a.get("epsilon", 1e-5))


def _squeeze(taken: Sequence[Any], a: Attributes) -> Tensor:
    return torch.squeeze(taken[0], dim=tuple(int(axis) for axis in taken[1]))


def _unsqueeze(taken: Sequence[Any], a: Attributes) -> Tensor:
    x = taken[0]
    for axis in sorted(int(axis) for axis in taken[1]):
        x = x.unsqueeze(axis)
    return x


def _shape(taken: Sequence[Any], a: Attributes) -> Tensor:
    return torch.tensor(taken[0].shape[a.get("start", 0) : a.get("end")])


def _gather(taken: Sequence[Any], a: Attributes) -> Tensor:
    x, index = taken
    picked = torch.index_select(x, a.get("axis", 0), index.reshape(-1) % x.shape[a.get("axis", 0)])
    return picked.squeeze(a.get("axis", 0)) if index.ndim == 0 else picked


OPERATORS: dict[str, Callable[[Sequence[Any], Attributes], Any]] = {
    "Add": lambda t, a: t[0] + t[1],
    "AveragePool": _average_pool,
    "Clip": lambda t, a: torch.clamp(t[0], *t[1:]),
    "Concat": lambda t, a: torch.cat(list(t), dim=a["axis"]),
    "ConstantOfShape": lambda t, a: torch.zeros([int(size) for size in t[0]]),
    "Conv": _convolution,
    "Div": lambda t, a: t[0] / t[1],
    "Erf": lambda t, a: torch.erf(t[0]),
    "Flatten": lambda t, a: t[0].flatten(a.get("axis", 1)),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda t, a: t[0].mean(dim=tuple(range(2, t[0].ndim)), keepdim=True),
    "LayerNormalization": _layer_norm,
    "MatMul": lambda t, a: t[0] @ t[1],
    "MaxPool": _max_pool,
    "Mul": lambda t, a: t[0] * t[1],
    "ReduceMean": _mean,
    "Relu": lambda t, a: torch.relu(t[0]),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda t, a: torch.sigmoid(t[0]),
    "Slice": _slice,
    "Softmax": lambda t, a: torch.softmax(t[0], dim=a.get("axis", -1)),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": lambda t, a: t[0] - t[1],
    "Tanh": lambda t, a: torch.tanh(t[0]),
    "Transpose": lambda t, a: t[0].permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
}
