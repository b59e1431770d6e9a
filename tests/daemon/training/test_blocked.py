"""Does the blocked step graph compute what the plain one does, for every kind of layer and size?"""

import numpy as np
import pytest
from tests.daemon.training.step_graphs import NETS, assert_same_gradients, pictures, separable, step_graph
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.artifact.session import open_session
from mmd.training.blocked import in_blocks
from mmd.training.blocks import DOMAIN, block_size

pytestmark = [
    NEEDS_TRAINING_BUILD,
    pytest.mark.skipif(block_size() is None, reason="this processor's onnxruntime has no blocked operators"),
]


@pytest.mark.parametrize("name", NETS)
def test_the_blocked_graph_has_the_gradients_of_the_plain_one(name: str) -> None:
    layers = NETS[name]()
    plain, feed = step_graph(layers)
    blocked = in_blocks(plain, layers.batch, block_size() or 0)
    assert sum(node.domain == DOMAIN and node.op_type == "Conv" for node in blocked.graph.node) >= layers.convolutions
    assert_same_gradients(blocked, plain, feed)


def test_equal_values_in_a_window_give_the_gradient_to_the_first() -> None:
    layers = pictures()
    plain, feed = step_graph(layers)
    feed["x"] = np.ones_like(feed["x"])
    assert_same_gradients(in_blocks(plain, layers.batch, block_size() or 0), plain, feed)


def test_the_same_step_gives_the_same_bits() -> None:
    layers = separable()
    plain, feed = step_graph(layers)
    model = in_blocks(plain, layers.batch, block_size() or 0).SerializeToString()
    first, second = ([value.tobytes() for value in open_session(model).run(None, feed)] for _ in range(2))
    assert first == second
