"""What does the lowered graph promise, and what is refused?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.tools.lowering.cases import Case, behind_add, node
from tests.tools.lowering.graphs import Built, build

from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import ArtifactRefused
from mmd_tools.fuse.gradients import training_build_is_installed
from mmd_tools.lowering import lower, set_optimizer_attributes
from mmd_tools.lowering.document import rules_table
from mmd_tools.lowering.table import RULES

pytestmark = pytest.mark.skipif(
    not training_build_is_installed(), reason="gradient graphs can only be built with onnxruntime-training"
)


def small_net() -> Built:
    generator = np.random.default_rng(0)
    parameters = {
        "w": generator.standard_normal((3, 1, 3, 3)).astype(np.float32),
        "v": generator.standard_normal((3 * 16, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "v"], ["y"], name="dense"),
    ]
    return build(Case(nodes, {"x": generator.standard_normal((2, 1, 4, 4)).astype(np.float32)}, parameters))


def training_graph(op: str, domain: str = "com.microsoft") -> onnx.ModelProto:
    """A made-up gradient graph whose gradient of `w` comes out of `op`."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["y"], name="product"),
        helper.make_node("ReduceSum", ["y"], ["loss"], keepdims=0, name="total"),
        helper.make_node(op, ["x", "w"], ["w_grad"], domain=domain, name="strange"),
        helper.make_node(
            "InPlaceAccumulatorV2",
            ["w_grad.accumulation.buffer", "w_grad", "lazy_reset_grad"],
            ["w_grad.accumulation.out"],
            domain="com.microsoft",
            name="accumulate",
        ),
    ]
    floats = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("x", "w", "w_grad.accumulation.buffer")
    ]
    reset = helper.make_tensor_value_info("lazy_reset_grad", TensorProto.BOOL, [1])
    outputs = [
        helper.make_tensor_value_info("loss", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("w_grad.accumulation.out", TensorProto.BOOL, [1]),
    ]
    graph = helper.make_graph(nodes, "made_up", [*floats, reset], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)])


def test_the_step_graph_has_the_names_that_the_engine_binds() -> None:
    graph = small_net().lowered.graph
    inputs, outputs = {v.name for v in graph.input}, [v.name for v in graph.output]
    state = {f"{p}{suffix}" for p in ("w", "v") for suffix in ("", ".m1", ".m2")}
    assert inputs == {"x", "weighting", "learning_rate", "weight_decay", "clip_norm", "step"} | state
    assert outputs[0] == "loss"
    assert set(outputs[1:]) == {f"{p}.{s}" for p in ("w", "v") for s in ("grad", "next", "m1.next", "m2.next")}


def test_the_step_graph_is_plain_onnx_that_old_and_new_runtimes_read() -> None:
    model = small_net().lowered
    assert {entry.domain for entry in model.opset_import} == {""}
    assert model.ir_version <= 10
    assert not {n.op_type for n in model.graph.node} & set(RULES)


def test_the_batch_stays_symbolic() -> None:
    built = small_net()
    session = built.lowered_session()
    for size in (1, 5):
        built.inputs["x"] = np.ones((size, 1, 4, 4), np.float32)
        built.inputs["weighting"] = np.ones((size, 4), np.float32)
        loss, _ = built.gradients(session)
        assert np.isfinite(loss)


def test_nothing_is_computed_that_no_output_needs() -> None:
    graph = small_net().lowered.graph
    read = {name for n in graph.node for name in n.input} | {v.name for v in graph.output}
    assert all(read.intersection(n.output) for n in graph.node)
    assert all(tensor.name in read for tensor in graph.initializer)


def test_an_operator_without_a_rule_is_refused_with_its_name_and_its_node() -> None:
    with pytest.raises(ArtifactRefused, match=r"com\.microsoft\.FancyGrad \(node strange"):
        lower(training_graph("FancyGrad"), ["w"], OptimizerSpec())


def test_an_operator_that_onnx_does_not_know_is_refused_in_the_plain_domain_too() -> None:
    model = training_graph("Mul", "")
    model.graph.node[0].op_type = "Multiply"
    with pytest.raises(ArtifactRefused, match="Multiply \\(node product"):
        lower(model, ["w"], OptimizerSpec())


def test_a_parameter_without_a_gradient_is_refused_by_name() -> None:
    with pytest.raises(ArtifactRefused, match="No gradient reaches the parameter other"):
        lower(small_net().training, ["w", "v", "other"], OptimizerSpec())


@pytest.mark.parametrize("opset", [15, 22])
def test_an_opset_that_one_of_the_runtimes_does_not_have_is_refused(opset: int) -> None:
    model = training_graph("Mul", "")
    model.opset_import[0].version = opset
    with pytest.raises(ArtifactRefused, match=f"opset {opset}"):
        lower(model, ["w"], OptimizerSpec())


def test_a_symbolic_picture_size_is_refused_by_the_tensor_it_belongs_to() -> None:
    built = small_net()
    for value in built.training.graph.input:
        if value.name == "x":
            value.type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(ArtifactRefused, match=r"x has shape .* only the batch may be symbolic"):
        lower(built.training, ["w", "v"], OptimizerSpec())


def test_an_unknown_shape_is_refused_by_the_tensor_it_belongs_to() -> None:
    built = small_net()
    kept = [value for value in built.training.graph.input if value.name != "x"]
    del built.training.graph.input[:]
    built.training.graph.input.extend(kept)
    with pytest.raises(ArtifactRefused, match="shape of x is not known"):
        lower(built.training, ["w", "v"], OptimizerSpec())


def test_a_transposed_convolution_with_automatic_pads_is_refused() -> None:
    layer = node("ConvTranspose", ["a", "k"], auto_pad="SAME_UPPER", strides=[2, 2])
    kernel = {"k": np.ones((1, 1, 3, 3), np.float32)}
    with pytest.raises(ArtifactRefused, match="explicit pads"):
        build(behind_add(lambda _: 1, [1, 4, 4], [layer], x=np.ones((1, 1, 4, 4), np.float32), parameters=kernel))


@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
def test_of_equal_values_in_a_window_the_first_gets_the_gradient_as_in_the_training_build(
    size: tuple[int, int],
) -> None:
    x = np.random.default_rng(3).integers(0, 3, (2, 4, *size)).astype(np.float32)
    layer = node("MaxPool", ["a"], kernel_shape=[2, 2], strides=[2, 2])
    built = build(Case([node("Add", ["x", "w"], ["a"]), layer], {"x": x}, {"w": np.zeros((4, *size), np.float32)}))
    _, expected = built.gradients_of_training_build()
    _, gradients = built.gradients(built.lowered_session())
    np.testing.assert_allclose(gradients["w"], expected["w"], atol=1e-6)


def test_a_max_pool_makes_indices_only_where_a_gradient_reads_them() -> None:
    def outputs(stride: int) -> int:
        layer = node("MaxPool", ["a"], kernel_shape=[2, 2], strides=[stride, stride])
        built = build(behind_add(lambda _: 1, [2, 4, 4], [layer], x=np.ones((1, 2, 4, 4), np.float32)))
        return next(len(n.output) for n in built.lowered.graph.node if n.op_type == "MaxPool")

    assert (outputs(stride=2), outputs(stride=1)) == (1, 2)


def test_the_optimizer_of_the_training_build_gets_the_sets_constants_and_a_readable_version() -> None:
    update = helper.make_node("AdamWOptimizer", ["a"], ["b"], domain="com.microsoft", alpha=0.1, adam_mode=1)
    model = helper.make_model(helper.make_graph([update], "optimizer", [], []), ir_version=13)
    set_optimizer_attributes(model, OptimizerSpec(beta1=0.8, beta2=0.99, epsilon=1e-7, weight_decay=0.02))
    values = {a.name: helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert values == pytest.approx(
        {"adam_mode": 0, "alpha": 0.8, "beta": 0.99, "correct_bias": 1, "epsilon": 1e-7, "weight_decay": 0.02}
    )
    assert model.ir_version == 10


def test_weights_that_lie_in_another_file_are_left_there() -> None:
    model = training_graph("Mul", "")
    far = numpy_helper.from_array(np.zeros(3, np.float32), "far")
    far.ClearField("raw_data")
    far.data_location = TensorProto.EXTERNAL
    far.external_data.add(key="location", value="mentor.data")
    model.graph.initializer.append(far)
    model.graph.node[0].input[0] = "far"
    lowered = lower(model, ["w"], OptimizerSpec())
    kept = next(tensor for tensor in lowered.graph.initializer if tensor.name == "far")
    assert kept.data_location == TensorProto.EXTERNAL


def test_the_table_in_the_docs_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "lowering.md"
    assert page.read_text(encoding="utf-8") == rules_table(), (
        "run `python -m mmd_tools.lowering.document docs/lowering.md`"
    )
