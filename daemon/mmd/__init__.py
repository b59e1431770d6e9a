"""mmd: a small network learns its owner's samples on the owner's own board, supervised by a big one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmd.serving.predictor import Predictor

__all__ = ["Predictor", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # onnxruntime is heavy and most commands never need it, so the predictor is imported on first use.
    if name == "Predictor":
        from mmd.serving.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'mmd' has no attribute {name!r}")
