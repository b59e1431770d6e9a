"""Does an int8 network say what the float one says, to within its rounding, whatever it is made of?"""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from tests.tools.networks import Net, run
from tests.tools.whole_nets import FAMILIES

from mmd.artifact.int8 import quantise
from mmd.errors import ArtifactRefused


def encoded(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("name", ["lenet", "vgg", "resnet", "mobilenet", "inception", "transformer", "audio", "mlp"])
def test_int8_answers_stay_close_to_the_float_ones(name: str) -> None:
    family = FAMILIES[name]
    x = np.random.default_rng(1).standard_normal((32, *family.shape)).astype(np.float32)
    model = family.model()
    (floats,) = run(model, {"x": x})
    (integers,) = run(onnx.load_model_from_string(quantise(encoded(model), x)), {"x": x})
    noise = (integers - floats).std() / floats.std()
    assert 0 < noise < 0.15


def test_weights_become_a_quarter_and_none_of_them_stays_in_float() -> None:
    model = FAMILIES["vgg"].model()
    x = np.random.default_rng(1).standard_normal((8, 3, 16, 16)).astype(np.float32)
    small = onnx.load_model_from_string(quantise(encoded(model), x))
    kinds = {numpy_helper.to_array(tensor).dtype.name for tensor in small.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {"int8"}
    assert {entry.domain for entry in small.opset_import} == {""}
    assert {node.domain for node in small.graph.node} == {""}


def test_equal_calls_give_equal_bytes() -> None:
    model = encoded(FAMILIES["mobilenet"].model())
    x = np.random.default_rng(1).standard_normal((8, 3, 8, 8)).astype(np.float32)
    assert quantise(model, x) == quantise(model, x)


def test_the_batch_stays_open() -> None:
    model = FAMILIES["lenet"].model()
    x = np.random.default_rng(1).standard_normal((8, 1, 12, 12)).astype(np.float32)
    small = onnx.load_model_from_string(quantise(encoded(model), x))
    assert [len(run(small, {"x": x[:count]})[0]) for count in (1, 5)] == [1, 5]


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-6, 1e6), bias=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_no_scale_of_weights_or_biases_overflows(scale: float, bias: float, seed: int) -> None:
    net = Net(seed)
    weight = net.constant((net.rng.standard_normal((4, 64)) * scale).astype(np.float32))
    y = net.add("Gemm", net.add("Flatten", "x"), weight, net.constant(np.full(4, bias, np.float32)), transB=1)
    model = net.model(y)
    x = net.rng.standard_normal((16, 1, 8, 8)).astype(np.float32)
    (floats,) = run(model, {"x": x})
    (integers,) = run(onnx.load_model_from_string(quantise(encoded(model), x)), {"x": x})
    np.testing.assert_allclose(integers, floats, atol=0.03 * np.abs(floats).max())


def test_a_row_of_zeros_keeps_its_bias() -> None:
    net = Net()
    weight, bias = net.constant(np.zeros((4, 64), np.float32)), net.constant(np.arange(4, dtype=np.float32))
    model = net.model(net.add("Gemm", net.add("Flatten", "x"), weight, bias, transB=1))
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    (integers,) = run(onnx.load_model_from_string(quantise(encoded(model), x)), {"x": x})
    np.testing.assert_allclose(integers, np.tile(np.arange(4.0), (2, 1)), atol=1e-4)


def test_a_network_without_weights_to_multiply_is_refused() -> None:
    net = Net()
    model = net.model(net.add("Relu", net.add("Flatten", "x")), classes=64)
    with pytest.raises(ArtifactRefused, match="no convolution or matrix product"):
        quantise(encoded(model), np.zeros((1, 1, 8, 8), np.float32))


def test_no_samples_to_calibrate_on_are_refused() -> None:
    with pytest.raises(ArtifactRefused, match="no samples to calibrate on"):
        quantise(encoded(FAMILIES["lenet"].model()), np.zeros((0, 1, 12, 12), np.float32))


def test_values_that_are_not_finite_are_refused_by_the_tensor_that_has_them() -> None:
    model = FAMILIES["lenet"].model()
    with pytest.raises(ArtifactRefused, match="is not finite on the calibration samples"):
        quantise(encoded(model), np.full((2, 1, 12, 12), np.inf, np.float32))
