"""Which operators does lowering replace, and by which rule? One line an operator."""

from collections.abc import Callable

from onnx import NodeProto

from mmd_tools.lowering import activations, arithmetic, convolution, layout, losses, pooling
from mmd_tools.lowering.emitter import Emitter

Rule = Callable[[Emitter, NodeProto], None]

RULES: dict[str, Rule] = {
    "AveragePoolGrad": pooling.average_pool_grad,
    "BiasGelu": activations.bias_gelu,
    "BiasGeluGrad_dX": activations.bias_gelu_grad,
    "BroadcastGradientArgs": arithmetic.broadcast_gradient_args,
    "ConcatTraining": layout.concat_training,
    "ConvGrad": convolution.conv_grad,
    "ConvTransposeGrad": convolution.conv_transpose_grad,
    "DivGrad": arithmetic.div_grad,
    "FastGelu": activations.fast_gelu,
    "FastGeluGrad": activations.fast_gelu_grad,
    "FusedMatMul": arithmetic.fused_mat_mul,
    "GatherElementsGrad": layout.gather_elements_grad,
    "GatherGrad": layout.gather_grad,
    "GatherNDGrad": layout.gather_nd_grad,
    "Gelu": activations.gelu,
    "GeluGrad": activations.gelu_grad,
    "LeakyReluGrad": activations.leaky_relu_grad,
    "LogSoftmaxGrad_13": activations.log_softmax_grad,
    "MaxPoolGrad": pooling.max_pool_grad,
    "PassThrough": arithmetic.pass_through,
    "QuickGelu": activations.quick_gelu,
    "QuickGeluGrad": activations.quick_gelu_grad,
    "ReduceSumTraining": arithmetic.reduce_sum_training,
    "ReluGrad": activations.relu_grad,
    "Scale": arithmetic.scale,
    "SigmoidGrad": activations.sigmoid_grad,
    "SliceGrad": layout.slice_grad,
    "SoftmaxCrossEntropyLoss": losses.softmax_cross_entropy_loss,
    "SoftmaxCrossEntropyLossGrad": losses.softmax_cross_entropy_loss_grad,
    "SoftmaxGrad_13": activations.softmax_grad,
    "SplitTraining": layout.split_training,
    "TanhGrad": activations.tanh_grad,
}
