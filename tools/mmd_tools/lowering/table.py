"""Which operators does lowering replace, and by which rule? One line an operator."""

from collections.abc import Callable

from onnx import NodeProto

from mmd_tools.lowering import (
    activations,
    arithmetic,
    convolution,
    layout,
    losses,
    normalisation,
    pooling,
    recurrent,
    resizing,
)
from mmd_tools.lowering.emitter import Emitter

Rule = Callable[[Emitter, NodeProto], None]

RULES: dict[str, Rule] = {
    "AveragePoolGrad": pooling.average_pool_grad,
    "BatchNormInternal": normalisation.batch_norm_internal,
    "BatchNormalizationGrad": normalisation.batch_norm_grad,
    "BiasGelu": activations.bias_gelu,
    "BiasGeluGrad_dX": activations.bias_gelu_grad,
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
    "GRUTraining": recurrent.gru_training,
    "Gelu": activations.gelu,
    "GeluGrad": activations.gelu_grad,
    "LSTMTraining": recurrent.lstm_training,
    "LayerNormalizationGrad": normalisation.layer_norm_grad,
    "LeakyReluGrad": activations.leaky_relu_grad,
    "LogSoftmaxGrad_13": activations.log_softmax_grad,
    "MaxPoolGrad": pooling.max_pool_grad,
    "QuickGelu": activations.quick_gelu,
    "QuickGeluGrad": activations.quick_gelu_grad,
    "ReluGrad": activations.relu_grad,
    "ResizeGrad": resizing.resize_grad,
    "Scale": arithmetic.scale,
    "SigmoidGrad": activations.sigmoid_grad,
    "SliceGrad": layout.slice_grad,
    "SoftmaxCrossEntropyLoss": losses.softmax_cross_entropy_loss,
    "SoftmaxCrossEntropyLossGrad": losses.softmax_cross_entropy_loss_grad,
    "SoftmaxCrossEntropyLossInternal": losses.softmax_cross_entropy_loss,
    "SoftmaxCrossEntropyLossInternalGrad": losses.softmax_cross_entropy_loss_grad,
    "SoftmaxGrad_13": activations.softmax_grad,
    "SplitTraining": layout.split_training,
    "TanhGrad": activations.tanh_grad,
    "Trilu": layout.trilu,
}
