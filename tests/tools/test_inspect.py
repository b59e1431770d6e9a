"""Does `mmd-tools inspect` say before anything is built what can be trained, what is frozen, and what it would cost?"""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.support import call_tools
from tests.tools import networks
from tests.tools.networks import NEEDS_TRAINING_BUILD, Net, plain, recipe, save
from tests.tools.test_fuse_commands import RECIPE

from mmd_tools.inspect import inspect


def refused(tmp_path: Path) -> Path:
    """A network that holds one operator of each kind that stands in the way."""
    net = Net()
    x = net.add("Ceil", net.conv("x", 1, 4), out="up")
    x = net.add("Hardmax", net.add("Gelu", x, domain="com.microsoft", out="bent"), out="odd")
    model = net.model(net.gemm(net.add("Flatten", x), 256, 4))
    model.opset_import.add(domain="com.microsoft", version=1)
    return save(model, tmp_path, "refused.onnx")


def test_every_operator_that_stands_in_the_way_is_named_with_a_way_out(tmp_path: Path) -> None:
    found = inspect(refused(tmp_path))
    assert found.ways_out == (
        "Ceil (up_node) has no gradient: use the network as Mentor, or export without it.",
        "Hardmax (odd_node) is not supported: replace it in the model before exporting.",
        "com.microsoft.Gelu (bent_node) is not plain ONNX: export again without fused or custom operators.",
    )
    assert [use.operator for use in found.operators][:3] == ["Ceil", "Hardmax", "com.microsoft.Gelu"]


def test_control_flow_is_named_with_the_tensor_behind_which_the_network_can_begin(tmp_path: Path) -> None:
    net = Net()
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["bent"])], "branch", [], [helper.make_tensor_value_info("bent", 1, None)]
    )
    always = net.constant(True, np.bool_)
    x = net.add("If", always, out="either", then_branch=branch, else_branch=branch)
    path = save(net.model(net.gemm(net.add("Flatten", x), 64, 4)), tmp_path, "net.onnx")
    (way_out,) = inspect(path).ways_out
    assert way_out.startswith("If (either_node) is control flow")
    assert "from either on" in way_out


def test_an_empty_file_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    ran = call_tools("inspect", tmp_path / "net.onnx")
    assert (ran.code, len(ran.error_lines)) == (5, 1)
    assert "holds no network (0 bytes)" in ran.err


def test_a_network_that_fits_has_nothing_in_the_way(tmp_path: Path) -> None:
    found = inspect(save(networks.mobile(), tmp_path, "net.onnx"))
    assert found.ways_out == ()
    gradients = {use.operator: use.gradient for use in found.operators}
    assert gradients["Conv"] == "yes"
    assert gradients["HardSwish"].startswith("rewritten: x")


@pytest.mark.parametrize(("name", "folded", "apart"), [("residual", 3, 0), ("before_norm", 0, 1), ("plain", 0, 0)])
def test_what_becomes_of_batch_normalization_is_said(name: str, folded: int, apart: int, tmp_path: Path) -> None:
    norms = inspect(save(networks.NETWORKS[name](), tmp_path, "net.onnx")).batch_normalisation
    assert (norms.folded, norms.product_and_sum) == (folded, apart)


def test_what_training_leaves_as_it_is_is_named(tmp_path: Path) -> None:
    net = Net()
    mean = net.constant(np.arange(64, dtype=np.float32).reshape(1, 8, 8))
    x = net.conv(net.add("Sub", "x", mean), 1, 4)
    model = net.model(net.gemm(net.add("Flatten", x), 256, 4))
    assert inspect(save(model, tmp_path, "net.onnx")).frozen == {mean: 64}


@NEEDS_TRAINING_BUILD
def test_a_step_is_weighed_in_both_engines_and_nothing_is_left_behind(tmp_path: Path) -> None:
    save(plain(8), tmp_path, "M.onnx")
    save(plain(3), tmp_path, "S.onnx")
    recipe(tmp_path)
    (tmp_path / "R.toml").write_text(RECIPE)
    before = sorted(tmp_path.iterdir())
    options = ["--step", "--mentor", tmp_path / "M.onnx", "--recipe", tmp_path / "R.toml", "--batch", 4]
    ran = call_tools("inspect", tmp_path / "S.onnx", *options, "--json")
    assert (ran.code, ran.err) == (0, "")
    step = json.loads(ran.out)["step"]
    assert set(step["step_ms"]) == {"portable", "ort_training"}
    assert {"portable", "ort_training", "portable.fused", "ort_training.fused"} <= set(step["step_bytes"])
    assert all(
        value > 0
        for value in [
            *step["step_ms"].values(),
            *step["step_bytes"].values(),
            *step["process"].values(),
            step["set_bytes"],
        ]
    )
    # Two bytes for each of the four logits and of the probed map, 8 x 8 x 8.
    assert step["cache_bytes_per_sample"] == 2 * (4 + 8 * 8 * 8)
    assert sorted(tmp_path.iterdir()) == before


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("options", [[], ["--step"]])
def test_the_layers_that_would_be_paired_are_ranked_before_anything_is_built(
    options: list[str], tmp_path: Path
) -> None:
    save(plain(8), tmp_path, "M.onnx")
    save(plain(3), tmp_path, "S.onnx")
    recipe(tmp_path)
    text = RECIPE[: RECIPE.index("[[probe]]")]
    (tmp_path / "R.toml").write_text(f'pairs = "auto"\n{text}')
    asked = ["inspect", tmp_path / "S.onnx", "--mentor", tmp_path / "M.onnx", "--recipe", tmp_path / "R.toml", *options]
    shown, told = call_tools(*asked), call_tools(*asked, "--json")
    assert (shown.code, told.code, shown.err) == (0, 0, "")
    pairs = json.loads(told.out)["pairs"]
    (paired,) = [pair for pair in pairs if pair["is_chosen"]]
    (line,) = [line for line in shown.out.splitlines() if line.endswith("paired")]
    assert line.split()[::2] == [paired["mentor"], paired["mentee"], f"{paired['cka']:.3f}", "paired"]


@NEEDS_TRAINING_BUILD
def test_a_network_alone_is_weighed_without_a_mentor(tmp_path: Path) -> None:
    ran = call_tools("inspect", save(plain(3), tmp_path, "S.onnx"), "--step")
    assert ran.code == 0
    assert "cache: 0 bytes a sample" in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mentor", "M.onnx"], "say --step"),
        (["--step"], "No step can be measured, no layer compared. The mentee refused.onnx"),
    ],
)
def test_a_cost_that_cannot_be_told_is_refused_in_one_line(options: list[str], message: str, tmp_path: Path) -> None:
    ran = call_tools("inspect", refused(tmp_path), *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.error_lines) == 1
