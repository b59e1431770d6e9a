"""Lowering rules: recurrent layers of the Mentor, which is never trained; the Mentee's are unrolled before."""

from onnx import NodeProto

from mmd_tools.lowering.emitter import Emitter, attributes_of, output_of


def lstm_training(e: Emitter, node: NodeProto) -> None:
    """LSTM as ONNX has it; what it keeps for a gradient, nobody reads."""
    e.emit_many("LSTM", node.input, [output_of(node, index) for index in range(3)], **attributes_of(node))


def gru_training(e: Emitter, node: NodeProto) -> None:
    """GRU as ONNX has it; what it keeps for a gradient, nobody reads."""
    e.emit_many("GRU", node.input, [output_of(node, index) for index in range(2)], **attributes_of(node))
