"""Which operators are said in others that have gradients? One rule an operator, in one table."""

import onnx

from mmd_tools.fuse import activations, edit, instance_norm, reductions
from mmd_tools.fuse.recurrent import GATES, unroll
from mmd_tools.fuse.steps import Rule, Steps

DECOMPOSITIONS: dict[str, Rule] = {
    "AveragePool": reductions.average_pool,
    "Celu": activations.celu,
    "DepthToSpace": reductions.depth_to_space,
    "Elu": activations.elu,
    "GlobalMaxPool": reductions.global_max_pool,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "InstanceNormalization": instance_norm.instance_normalization,
    "LRN": reductions.lrn,
    "LpNormalization": reductions.lp_normalization,
    "Mean": reductions.mean_of_all,
    "PRelu": activations.prelu,
    "Reciprocal": reductions.reciprocal,
    "ReduceL1": reductions.reduce_l1,
    "ReduceL2": reductions.reduce_l2,
    "ReduceLogSum": reductions.reduce_log_sum,
    "ReduceLogSumExp": reductions.reduce_log_sum_exp,
    "ReduceMax": reductions.reduce_max,
    "ReduceMin": reductions.reduce_min,
    "ReduceSumSquare": reductions.reduce_sum_square,
    "Selu": activations.selu,
    "Softplus": activations.softplus,
    "Softsign": activations.softsign,
    "SpaceToDepth": reductions.space_to_depth,
    "Sum": reductions.sum_of_all,
    "ThresholdedRelu": activations.thresholded_relu,
}

OF_MENTOR_TOO = frozenset({"AveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish"})
"""The rest of a Mentor's are left as they are: it needs no gradient."""


def decompose(model: onnx.ModelProto, *, is_trained: bool) -> None:
    """Rewrite the operators of the DECOMPOSITIONS table into others that have gradients, and unroll what is trained."""
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if is_trained and node.op_type in GATES:
            kept.extend(unroll(model, node))
        elif node.op_type in (DECOMPOSITIONS if is_trained else OF_MENTOR_TOO):
            kept.extend(rewritten(model, node, DECOMPOSITIONS[node.op_type]))
        else:
            kept.append(node)
    edit.replace_nodes(model, kept)


def rewritten(model: onnx.ModelProto, node: onnx.NodeProto, rule: Rule) -> list[onnx.NodeProto]:
    """Return the nodes that `rule` makes of `node`."""
    steps = Steps(model, node)
    rule(steps)
    return steps.nodes
