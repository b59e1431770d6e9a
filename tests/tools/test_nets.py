"""Do a few words become the network that they say?"""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mmd.errors import UsageError
from mmd_tools.nets import LAYERS, NetRecipe, build_net, parameter_count, with_weights

DIGITS = NetRecipe(layers=("conv 4 3", "relu", "pool 2", "flatten", "fc 10"), input=(1, 28, 28))

FITTING = {
    "conv": ("conv 3 5", "flatten", "fc 4"),
    "pool": ("pool 2", "flatten", "fc 4"),
    "relu": ("relu", "flatten", "fc 4"),
    "flatten": ("flatten", "fc 4"),
    "fc": ("flatten", "fc 7", "fc 4"),
}


def _run(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": inputs.astype(np.float32)})
    return np.asarray(logits)


@pytest.mark.parametrize("word", LAYERS)
def test_every_layer_of_the_table_gives_a_network_that_runs(word: str) -> None:
    model = build_net(NetRecipe(layers=FITTING[word], input=(2, 6, 6)))
    assert _run(model, np.ones((3, 2, 6, 6))).shape == (3, 4)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    one, same = build_net(DIGITS), build_net(DIGITS)
    other = build_net(NetRecipe(layers=DIGITS.layers, input=DIGITS.input, seed=1))
    assert one.SerializeToString(deterministic=True) == same.SerializeToString(deterministic=True)
    assert one.graph.initializer[0] != other.graph.initializer[0]


def test_tensors_are_called_after_their_layer_and_its_count() -> None:
    model = build_net(NetRecipe(layers=("conv 2 3", "relu", "conv 2 3", "relu", "flatten", "fc 3"), input=(1, 4, 4)))
    outputs = [node.output[0] for node in model.graph.node]
    assert outputs == ["conv1", "relu1", "conv2", "relu2", "flatten1", "logits"]
    assert [tensor.name for tensor in model.graph.initializer][:2] == ["conv1.weight", "conv1.bias"]


def test_layers_of_a_signal_work_along_its_width() -> None:
    model = build_net(NetRecipe(layers=("conv 4 5", "pool 4", "flatten", "fc 3"), input=(6, 1, 20)))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert (shapes["conv1.weight"], shapes["fc1.weight"]) == ((4, 6, 1, 5), (3, 4 * 5))
    assert _run(model, np.ones((2, 6, 1, 20))).shape == (2, 3)


def test_parameters_are_counted() -> None:
    assert parameter_count(build_net(DIGITS)) == 4 * 9 + 4 + 4 * 14 * 14 * 10 + 10


def test_signals_keep_their_size_through_initialised_layers() -> None:
    layers = ("fc 256", "relu", "fc 256", "relu", "fc 256", "relu", "fc 256")
    inputs = np.random.default_rng(0).standard_normal((64, 256))
    assert 0.5 < _run(build_net(NetRecipe(layers=layers, input=(256,))), inputs).std() < 3


def test_weights_are_replaced_by_name_in_a_copy() -> None:
    model = build_net(DIGITS)
    changed = with_weights(model, {"fc1.bias": np.arange(10, dtype=np.float32)})
    difference = _run(changed, np.zeros((1, 1, 28, 28))) - _run(model, np.zeros((1, 1, 28, 28)))
    assert np.allclose(difference, np.arange(10))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "no layers"),
        (("dense 10",), "There is no layer `dense 10`; known: conv, pool, relu, flatten, fc."),
        (("",), "There is no layer ``"),
        (("conv 8",), "write `conv CHANNELS KERNEL`"),
        (("conv 8 x",), "does not parse"),
        (("fc 0",), "write `fc FEATURES`"),
        (("relu 3",), "write `relu`"),
        (("conv 8 4",), "the kernel 4 is even"),
        (("fc 10",), "put `flatten` before it"),
        (("flatten", "pool 2"), "it needs a map of channels"),
        (("pool 30",), "smaller than the pool"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(layers: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_net(NetRecipe(layers=layers, input=(1, 28, 28)))
    assert message in str(refused.value)
