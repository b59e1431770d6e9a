"""Are the right blocks left out, and does what is left still fit together?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import Net, run, save
from tests.tools.whole_nets import FAMILIES, Layers

from mmd.errors import UsageError
from mmd_tools.fuse.network import Network, read_network
from mmd_tools.shrink.depth import removable, shallower
from mmd_tools.shrink.resolution import lower_resolution


def network(model: onnx.ModelProto, folder: Path) -> Network:
    return read_network(save(model, folder, "net.onnx"), "mentee")


def convolutions(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "Conv" for node in model.graph.node)


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run(model, {model.graph.input[0].name: x})[0]


def test_a_block_beside_an_identity_is_left_out_by_its_identity(tmp_path: Path) -> None:
    net = network(FAMILIES["resnet"].model(), tmp_path)
    assert len(removable(net)) == 1
    small = shallower(net, 0.0)
    assert convolutions(net.model) - convolutions(small) == 2
    assert network(small, tmp_path).classes == net.classes


def test_convolutions_that_keep_their_shape_are_left_out_of_a_row(tmp_path: Path) -> None:
    net = network(FAMILIES["vgg"].model(), tmp_path)
    assert len(removable(net)) == 3
    assert convolutions(shallower(net, 0.0)) == 3
    assert convolutions(shallower(net, 1 / 3)) == 4
    assert convolutions(shallower(net, 1.0)) == 6


@pytest.mark.parametrize(("name", "blocks"), [("ResNet-50", 12), ("VGG-16", 8), ("MobileNetV2", 3)])
def test_the_removable_blocks_of_an_architecture_are_found_and_go(name: str, blocks: int, tmp_path: Path) -> None:
    net = network(ARCHITECTURES[name][0](), tmp_path)
    assert len(removable(net)) == blocks
    assert network(shallower(net, 0.5), tmp_path).classes == net.classes


def test_the_block_that_changes_least_goes_first(tmp_path: Path) -> None:
    net = Layers(0)
    x = net.relu_conv("x", 3, 4)
    weak = net.conv(x, 4, 4, bias=False)
    net.weights[-1].raw_data = np.full((4, 4, 3, 3), 1e-6, np.float32).tobytes()
    x = net.add("Add", x, weak)
    x = net.add("Add", x, net.conv(x, 4, 4, bias=False))
    model = net.model(net.head(x, 4), shape=(3, 8, 8))
    whole = network(model, tmp_path)
    x0 = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(answers(shallower(whole, 0.5), x0), answers(whole.model, x0), atol=1e-3)


def test_a_lower_resolution_takes_the_same_input_and_sees_a_smaller_map(tmp_path: Path) -> None:
    net = network(FAMILIES["vgg"].model(), tmp_path)
    small = network(lower_resolution(net, 0.5), tmp_path)
    assert small.input_shape == net.input_shape
    assert next(iter(small.shapes.values())) == (3, 8, 8)
    assert small.classes == net.classes


def test_what_is_flat_in_blocks_of_two_is_answered_alike_at_half_the_resolution(tmp_path: Path) -> None:
    net = Net()
    net.model("x")
    x = net.gemm(net.add("Flatten", net.add("Conv", "x", net.weight(3, 1, 1, 1))), 3 * 64, 4)
    whole = network(net.model(x), tmp_path)
    picture = np.repeat(np.repeat(np.random.default_rng(0).standard_normal((2, 1, 4, 4)), 2, axis=2), 2, axis=3)
    half = lower_resolution(whole, 0.5)
    x0 = picture.astype(np.float32)
    np.testing.assert_allclose(answers(half, x0), answers(whole.model, x0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.4, 0.01])
def test_a_resolution_that_does_not_fit_is_refused(factor: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not fit the input"):
        lower_resolution(network(FAMILIES["vgg"].model(), tmp_path), factor)
