"""Do spare outputs stand behind the logits, at 0, and leave the others as they are?"""

from pathlib import Path

import numpy as np
import pytest
from tests.tools.architectures import ARCHITECTURES
from tests.tools.networks import Net, run, save
from tests.tools.whole_nets import FAMILIES

from mmd.errors import UsageError
from mmd_tools.fuse.network import read_network
from mmd_tools.shrink.spare import with_spare_outputs

MODELS = {name: FAMILIES[name].model for name in ("mlp", "vgg", "resnet", "mobilenet")}
MODELS |= {name: ARCHITECTURES[name][0] for name in ("GoogLeNet (Inception v1)", "MobileNetV3", "ViT")}


@pytest.mark.parametrize("name", MODELS)
def test_spare_outputs_are_0_and_the_others_stay(name: str, tmp_path: Path) -> None:
    network = read_network(save(MODELS[name](), tmp_path, "net.onnx"), "mentee")
    x = np.random.default_rng(0).standard_normal((2, *network.input_shape)).astype(np.float32)
    before = run(network.model, {network.input: x})[0]
    wider = with_spare_outputs(network, 3)
    after = run(wider, {network.input: x})[0]
    np.testing.assert_allclose(after[:, : network.classes], before, rtol=1e-5, atol=1e-5)
    assert (after[:, network.classes :] == 0).all()
    assert read_network(save(wider, tmp_path, "wider.onnx"), "mentee").classes == network.classes + 3


def test_logits_that_no_weight_makes_class_by_class_are_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Relu", net.gemm(net.add("Flatten", "x"), 64, 8))
    half = net.add("Slice", x, *(net.constant([at], np.int64) for at in (0, 4, 1)))
    network = read_network(save(net.model(half), tmp_path, "net.onnx"), "mentee")
    with pytest.raises(UsageError, match="No spare outputs can be added"):
        with_spare_outputs(network, 2)
