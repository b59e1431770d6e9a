"""Rewrites onnxruntime-training's gradient graph into one that a stock onnxruntime runs."""

from mmd_tools.lowering.lower import lower
from mmd_tools.lowering.optimizer import set_optimizer_attributes

__all__ = ["lower", "set_optimizer_attributes"]
