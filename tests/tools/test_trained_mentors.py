"""Do networks with trained weights teach? Opt-in: MMD_TRAINED_MENTORS names a folder of ONNX files.

tests/golden/exported/make_trained.py makes it. With --junit-xml the figures of each file are kept as its properties.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.tools.architectures import Exported
from tests.tools.networks import NEEDS_TRAINING_BUILD, one_batch_descends, save

from mmd.artifact.load import open_set
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import read_network
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe
from mmd_tools.verify import verify

VARIABLE = "MMD_TRAINED_MENTORS"
DIGITS = Path(__file__).parents[2] / "artifacts" / "digits" / "anchor.npz"
UNSET = pytest.mark.skip(reason=f"{VARIABLE} names no folder of trained networks")


def files() -> list[object]:
    folder = os.environ.get(VARIABLE)
    if not folder:
        return [pytest.param(None, id="unset", marks=UNSET)]
    found = sorted(Path(folder).glob("*.onnx"))
    if not found:
        raise pytest.UsageError(f"{VARIABLE}: there is no ONNX file in {folder}.")
    return [pytest.param(path, id=path.stem) for path in found]


def digits(count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return real digits resized to `shape`, channels first or last, each pixel repeated."""
    with np.load(DIGITS) as archive:
        inputs, labels = archive["inputs"][:count], archive["labels"][:count]
    channels_last = shape[-1] == 3
    size, channels = shape[1], shape[2 if channels_last else 0]
    places = np.arange(size) * inputs.shape[2] // size
    enlarged = np.repeat(inputs[:, :, places][:, :, :, places], channels, axis=1)
    return (enlarged.transpose(0, 2, 3, 1) if channels_last else enlarged), labels


def mentee(shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
    """Two convolutions; `hidden` is a map."""
    net = Exported(1)
    channels_last = shape[-1] == 3
    x = net.add("Transpose", "x", perm=[0, 3, 1, 2]) if channels_last else "x"
    x = net.add("Relu", net.conv(x, 3 if channels_last else shape[0], 8, 5, strides=[4, 4]))
    x = net.add("Relu", net.conv(x, 8, 12, strides=[2, 2]), out="hidden")
    x = net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 12, classes)
    return net.model(x, shape=shape, classes=classes)


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("path", files())
def test_a_trained_mentor_teaches_a_small_mentee(
    path: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    read = read_network(path, "mentor")
    inputs, labels = digits(8, read.input_shape)
    labels = labels % read.classes
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
    square_maps = [name for name, shape in read.shapes.items() if len(shape) == 3 and shape[1] == shape[2] > 1]
    recipe = Recipe(
        name="trained",
        licence="MIT",
        classes=tuple(map(str, range(read.classes))),
        anchor=str(tmp_path / "anchor.npz"),
        input=InputRecipe(kind="tensor" if read.input_shape[-1] == 3 else "image", scale=1 / 255),
        probe=(ProbeRecipe(mentor=square_maps[-1], mentee="hidden"),),
    )
    fuse(path, save(mentee(read.input_shape, read.classes), tmp_path, "mentee.onnx"), recipe, tmp_path / "set")
    checks = verify(tmp_path / "set")
    record_property("parameters", sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer))
    for check in checks:
        record_property(check.name, check.detail)
    assert [check for check in checks if not check.passed] == []
    losses = one_batch_descends(open_set(tmp_path / "set"), inputs, labels, steps=4)
    record_property("loss", f"{losses[0]:.4f} -> {losses[-1]:.4f}")
