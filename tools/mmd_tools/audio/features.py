"""How does a stored recording become log-mel features? `preprocess.onnx`, in plain operators.

The definitions are those of the HTK Book (Young et al., "The HTK Book", section 5.6, Filterbank Analysis): the power
spectrum of Hann-windowed frames, triangular filters with peak 1 that are spaced evenly on the scale
mel(f) = 2595 log10(1 + f / 700), and the natural logarithm.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mmd.artifact.preprocess import Preprocessing
from mmd_tools.audio.resample import FULL_SCALE, IR_VERSION, OPSET
from mmd_tools.recipe import AudioRecipe, InputRecipe

Doubles = NDArray[np.float64]


def feature_shape(audio: AudioRecipe) -> tuple[int, int, int]:
    """Return (1, mels, frames)."""
    return 1, audio.mels, 1 + (audio.length - audio.window) // audio.hop


def recipe_preprocessing(recipe: InputRecipe) -> Preprocessing:
    """Return what a set of this recipe will make of its stored samples."""
    return Preprocessing(preprocess_graph(recipe.audio).SerializeToString() if recipe.audio else None)


def preprocess_graph(audio: AudioRecipe) -> onnx.ModelProto:
    """Return the graph: `stored` int16 [N, length] in, `features` float32 [N, 1, mels, frames] out."""
    used, filters = mel_filters(audio)
    basis = _basis(audio, used)
    constants: dict[str, NDArray[Any]] = {
        "scale": np.array(1 / FULL_SCALE, np.float32),
        "basis": basis.astype(np.float32)[:, None],
        "filters": filters.astype(np.float32),
        "log_offset": np.array(audio.log_offset, np.float32),
        "axis_1": np.array([1], np.int64),
    }
    nodes: list[Any] = [
        helper.make_node("Cast", ["stored"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["whole", "scale"], ["waveform"]),
        helper.make_node("Unsqueeze", ["waveform", "axis_1"], ["channel"]),
        helper.make_node("Conv", ["channel", "basis"], ["spectrum"], strides=[audio.hop]),
        helper.make_node("Mul", ["spectrum", "spectrum"], ["squares"]),
        helper.make_node("Split", ["squares"], ["real", "imaginary"], axis=1),
        helper.make_node("Add", ["real", "imaginary"], ["power"]),
        helper.make_node("MatMul", ["filters", "power"], ["mel"]),
        helper.make_node("Add", ["mel", "log_offset"], ["above_zero"]),
        helper.make_node("Log", ["above_zero"], ["logarithm"]),
        helper.make_node("Unsqueeze", ["logarithm", "axis_1"], ["features"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "preprocess",
            [helper.make_tensor_value_info("stored", TensorProto.INT16, ["batch", audio.length])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *feature_shape(audio)])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


def mel_filters(audio: AudioRecipe) -> tuple[NDArray[np.int64], Doubles]:
    """Return the bins of the spectrum that any filter reads, and the filters [mels, those bins]."""
    bins = np.arange(audio.fft // 2 + 1) * audio.rate_hz / audio.fft
    edges = _hertz(np.linspace(_mel(audio.low_hz), _mel(audio.high_hz), audio.mels + 2))
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0.0, np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)))
    used = np.flatnonzero(filters.any(axis=0))
    return used, filters[:, used]


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: Doubles) -> Doubles:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def _basis(audio: AudioRecipe, bins: NDArray[np.int64]) -> Doubles:
    """Return [2 * bins, window]: cosines, then sines, under a Hann window whose values sum to 1."""
    time = np.arange(audio.window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / audio.window)
    angle = 2 * np.pi * bins[:, None] * time / audio.fft
    basis: Doubles = np.concatenate([np.cos(angle), np.sin(angle)]) * (hann / hann.sum())
    return basis
