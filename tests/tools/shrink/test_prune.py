"""Is a narrower network the old one without the dropped channels, exactly, whatever joins its channels?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import Net, run, save
from tests.tools.whole_nets import FAMILIES

from mmd_tools.fuse.network import Network, read_network
from mmd_tools.shrink.groups import trace_channels
from mmd_tools.shrink.prune import cut, kept_count, pruned

CASES = ["lenet", "vgg", "resnet", "mobilenet", "inception", "mlp"]


def network(model: onnx.ModelProto, folder: Path) -> Network:
    return read_network(save(model, folder, "net.onnx"), "mentee")


def masked(net: Network, dropped: set[int]) -> onnx.ModelProto:
    """Return the old network with a product after every node that sets dropped channels to zero."""
    channels = trace_channels(net)
    model = onnx.ModelProto()
    model.CopyFrom(net.model)
    nodes = []
    for node in list(model.graph.node):
        nodes.append(node)
        name = node.output[0]
        if name not in channels.of or name == net.logits:
            continue
        mask = np.array([int(root) not in dropped for root in channels.roots(channels.of[name])], np.float32)
        mask = mask.reshape(-1, *([1] * (len(net.shapes[name]) - 1)))
        model.graph.initializer.append(numpy_helper.from_array(mask, f"{name}/mask"))
        node.output[0] = f"{name}/all"
        nodes.append(helper.make_node("Mul", [f"{name}/all", f"{name}/mask"], [name]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def answers(model: onnx.ModelProto, shape: tuple[int, ...]) -> np.ndarray:
    x = np.random.default_rng(5).standard_normal((3, *shape)).astype(np.float32)
    return run(model, {model.graph.input[0].name: x})[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_a_cut_network_says_what_the_old_one_says_without_those_channels(name: str, seed: int, tmp_path: Path) -> None:
    net = network(FAMILIES[name].model(), tmp_path)
    channels, rng = trace_channels(net), np.random.default_rng(seed)
    dropped: set[int] = set()
    for group in channels.groups():
        dropped.update(int(root) for root in rng.permutation(group)[: rng.integers(0, len(group))])
    assert dropped
    small = cut(channels, dropped)
    np.testing.assert_allclose(
        answers(small, net.input_shape), answers(masked(net, dropped), net.input_shape), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", CASES)
def test_half_the_width_leaves_about_a_quarter_of_the_weights(name: str, tmp_path: Path) -> None:
    net = network(FAMILIES[name].model(), tmp_path)
    before, after = (sum(int(np.prod(t.dims)) for t in m.graph.initializer) for m in (net.model, pruned(net, 0.5)))
    assert after < 0.65 * before
    assert network(pruned(net, 0.5), tmp_path).classes == net.classes


@pytest.mark.parametrize("name", ["ResNet-50", "GoogLeNet (Inception v1)", "MobileNetV2", "MobileNetV3"])
def test_a_whole_architecture_is_narrowed_and_still_runs(name: str, tmp_path: Path) -> None:
    net = network(ARCHITECTURES[name][0](), tmp_path)
    small = network(pruned(net, 0.5), tmp_path)
    assert np.isfinite(answers(small.model, small.input_shape)).all()
    before, after = (sum(int(np.prod(t.dims)) for t in each.model.graph.initializer) for each in (net, small))
    assert after < 0.6 * before


def test_the_filters_with_the_largest_norm_stay(tmp_path: Path) -> None:
    net = Net()
    weight = net.constant(np.array([1, 9, 2, 8], np.float32).reshape(4, 1, 1, 1) * np.ones((4, 1, 3, 3), np.float32))
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Conv", "x", weight, pads=[1] * 4)))
    small = pruned(network(net.model(net.gemm(x, 4, 4)), tmp_path), 0.5)
    kept = next(numpy_helper.to_array(t) for t in small.graph.initializer if t.name == weight)
    assert kept[:, 0, 0, 0].tolist() == [9, 8]


def test_with_samples_the_channels_that_they_excite_stay(tmp_path: Path) -> None:
    net = Net()
    weight = net.constant(np.array([1, -9, 2, 0.1], np.float32).reshape(4, 1, 1, 1))
    bias = net.constant(np.array([0, 9, 0, 20], np.float32))
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Conv", "x", weight, bias)))
    samples = np.ones((2, 1, 8, 8), np.float32)
    small = pruned(network(net.model(net.gemm(x, 4, 4)), tmp_path), 0.5, samples=samples)
    kept = next(numpy_helper.to_array(t) for t in small.graph.initializer if t.name == bias)
    assert kept.tolist() == [0, 20]


def test_channels_that_an_unknown_operator_reads_stay(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Transpose", net.conv("x", 1, 4), perm=[0, 2, 3, 1])
    model = net.model(net.gemm(net.add("Flatten", x), 256, 4))
    assert list(trace_channels(network(model, tmp_path)).groups()) == []


def test_a_weight_that_two_layers_share_is_left_whole(tmp_path: Path) -> None:
    net = Net()
    shared = net.weight(4, 4, 1, 1)
    x = net.add("Conv", net.add("Conv", net.conv("x", 1, 4), shared), shared)
    model = net.model(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 4, 4))
    small = pruned(network(model, tmp_path), 0.5)
    assert answers(small, (1, 8, 8)).shape == (3, 4)


@pytest.mark.parametrize(
    ("count", "width", "kept"), [(64, 0.5, 32), (64, 0.3, 16), (6, 0.5, 3), (1, 0.1, 1), (12, 1, 12)]
)
def test_channels_stay_in_blocks_of_eight_where_there_are_as_many(count: int, width: float, kept: int) -> None:
    assert kept_count(count, width) == kept
