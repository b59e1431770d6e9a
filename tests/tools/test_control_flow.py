"""Can a network that begins with a Loop be used? `inspect` says where to cut it, and what lies behind trains."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.tools import update_model_dims
from tests.support import call_tools
from tests.tools.networks import NEEDS_TRAINING_BUILD, Net, recipe, save

from mmd.errors import ArtifactRefused
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import Role, read_network
from mmd_tools.inspect import inspect
from mmd_tools.recipe import InputRecipe, ProbeRecipe
from mmd_tools.verify import verify

FRAMES, HOP, WINDOW, BINS = 6, 8, 16, 8
SAMPLES = HOP * (FRAMES - 1) + WINDOW


def spectrogram_of_one() -> onnx.GraphProto:
    """Take sample i of `x`, of the graph around it, and give its spectrogram [frames, bins]: what is mapped."""
    scalars = [helper.make_tensor_value_info("i", TensorProto.INT64, [])]
    scalars += [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go_on", "goes_on")]
    nodes = [
        helper.make_node("Identity", ["go_on"], ["goes_on"]),
        helper.make_node("Gather", ["x", "i"], ["one"], axis=0),
        helper.make_node("Gather", ["one", "places"], ["windows"], axis=0),
        helper.make_node("MatMul", ["windows", "basis"], ["amplitudes"]),
        helper.make_node("Mul", ["amplitudes", "amplitudes"], ["powers"]),
    ]
    given = helper.make_tensor_value_info("powers", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "one", [scalars[0], scalars[1]], [scalars[2], given])


def listening(channels: int, seed: int) -> onnx.ModelProto:
    """A signal [N, samples], a Loop over the batch that makes spectrograms of it, convolutions, logits."""
    net = Net(seed)
    places = np.arange(FRAMES)[:, None] * HOP + np.arange(WINDOW)
    basis = np.cos(np.pi * np.outer(np.arange(WINDOW) + 0.5, np.arange(BINS) + 0.5) / WINDOW)
    net.weights.append(numpy_helper.from_array(places.astype(np.int64), "places"))
    net.weights.append(numpy_helper.from_array(basis.astype(np.float32), "basis"))
    count = net.add("Squeeze", net.add("Shape", "x", start=0, end=1))
    spectrogram = net.add("Loop", count, "", out="spectrogram", body=spectrogram_of_one())
    x = net.add("Unsqueeze", spectrogram, net.constant([1], np.int64))
    x = net.add("Relu", net.conv(x, 1, channels), out="heard")
    x = net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), channels, 4)
    return net.model(x, shape=("samples",))


def behind_the_loop(path: Path) -> Path:
    """Do what `inspect` says: cut the network where it may begin, and write down the sizes there."""
    (way_out,) = inspect(path).ways_out
    found = re.search(r"onnx\.utils\.extract_model, from (\S+) on", way_out)
    assert found is not None, way_out
    assert "onnx.tools.update_model_dims" in way_out
    cut = path.with_name(f"cut_{path.name}")
    onnx.utils.extract_model(str(path), str(cut), [found[1]], ["gemm8"], check_model=False)
    sizes = update_model_dims.update_inputs_outputs_dims(
        onnx.load(cut), {found[1]: ["N", FRAMES, BINS]}, {"gemm8": ["N", 4]}
    )
    onnx.save(sizes, cut)
    return cut


def test_a_loop_is_named_with_the_tensor_behind_which_the_network_can_begin(tmp_path: Path) -> None:
    path = save(listening(6, 0), tmp_path, "net.onnx")
    ran = call_tools("inspect", path)
    assert ran.code == 0
    assert "Loop (spectrogram_node) is control flow" in ran.out
    assert "from spectrogram on" in ran.out
    roles: tuple[Role, ...] = ("mentor", "mentee")
    for role in roles:
        with pytest.raises(ArtifactRefused, match=r"unsupported operator Loop \(spectrogram_node\)"):
            read_network(path, role)


@NEEDS_TRAINING_BUILD
def test_what_lies_behind_a_loop_teaches_and_is_taught(tmp_path: Path) -> None:
    big, small = (save(listening(channels, seed), tmp_path, f"{seed}.onnx") for channels, seed in ((6, 9), (3, 1)))
    sound = np.random.default_rng(0).standard_normal((8, SAMPLES)).astype(np.float32)
    whole = ort.InferenceSession(listening(6, 9).SerializeToString())
    spectrogram_only = listening(6, 9)
    spectrogram_only.graph.output.append(onnx.ValueInfoProto(name="spectrogram"))
    (spectrograms,) = ort.InferenceSession(spectrogram_only.SerializeToString()).run(["spectrogram"], {"x": sound})
    cut = behind_the_loop(big)
    (behind,) = ort.InferenceSession(cut).run(None, {"spectrogram": spectrograms})
    np.testing.assert_allclose(behind, whole.run(None, {"x": sound})[0], rtol=1e-5)
    probe = ProbeRecipe(mentor="heard", mentee="heard")
    asked = recipe(tmp_path, probe=(probe,), input=InputRecipe(kind="tensor"))
    np.savez(tmp_path / "anchor.npz", inputs=spectrograms, labels=np.arange(8) % 4)
    fuse(cut, behind_the_loop(small), asked, tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
