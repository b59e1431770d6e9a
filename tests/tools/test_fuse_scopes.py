"""Does the gradient of each term reach exactly the parameters that the scopes of the hints leave to it?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.tools import networks
from tests.tools.networks import Net, recipe, save

from mmd.artifact.load import open_set
from mmd.errors import UsageError
from mmd.training.engine import Batch, Floats, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.recipe import ProbeRecipe
from mmd_tools.verify import verify

pytestmark = networks.NEEDS_TRAINING_BUILD

STEM, FIRST, SECOND, LAST, HEAD = ({f"w{2 * layer}", f"w{2 * layer + 1}"} for layer in range(5))
ALL = STEM | FIRST | SECOND | LAST | HEAD


def bypassed(channels: int, seed: int) -> onnx.ModelProto:
    """stem, first, second, a shortcut from the stem around both, last, head; `second` and `last` can be probed."""
    net = Net(seed)
    stem = net.add("Tanh", net.conv("x", 1, channels), out="stem")
    first = net.add("Tanh", net.conv(stem, channels, channels), out="first")
    second = net.add("Tanh", net.conv(first, channels, channels), out="second")
    joined = net.add("Add", second, stem, out="joined")
    last = net.add("Tanh", net.conv(joined, channels, channels), out="last")
    row = net.add("Flatten", net.add("GlobalAveragePool", last))
    return net.model(net.gemm(row, channels, 4))


def gradients(folder: Path, engine: str, *probes: ProbeRecipe) -> Callable[[int | None], dict[str, Floats]]:
    """Fuse, and return what gives the gradient of one hint, or of labels and soft targets for None."""
    folder.mkdir()
    big, small = save(bypassed(5, 9), folder, "M.onnx"), save(bypassed(3, 1), folder, "S.onnx")
    fuse(big, small, recipe(folder, probe=probes), folder / "set")
    opened = open_engine(open_set(folder / "set"), name=engine, variant="fused")
    x = np.random.default_rng(3).standard_normal((5, *networks.SHAPE)).astype(np.float32)
    batch = Batch(x, np.array([0, 1, -1, 3, 2], np.int64))

    def of(hint: int | None) -> dict[str, Floats]:
        betas = tuple(float(index == hint) for index in range(len(probes)))
        rest = 1.0 if hint is None else 0.0
        return opened.gradients(batch, LossWeights(alpha=rest, betas=betas, gamma=rest, temperature=2.0))[1]

    return of


def reached(found: dict[str, Floats]) -> set[str]:
    return {name for name, value in found.items() if np.any(value) and name in ALL}


def probe(layer: str, scope: str) -> ProbeRecipe:
    return ProbeRecipe(mentor=layer, mentee=layer, scope=scope)  # type: ignore[arg-type]


ENGINES = ("portable", "ort_training")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("scope", "by_hint", "by_rest"),
    [
        ("whole", STEM | FIRST | SECOND, ALL),
        ("up-to-probe", STEM | FIRST | SECOND, LAST | HEAD),
        ("layer", SECOND, ALL),
    ],
)
def test_a_scope_leaves_exactly_its_parameters(
    scope: str, by_hint: set[str], by_rest: set[str], engine: str, tmp_path: Path
) -> None:
    of = gradients(tmp_path / "scoped", engine, probe("second", scope))
    free = gradients(tmp_path / "free", engine, probe("second", "whole"))
    for hint, expected in ((0, by_hint), (None, by_rest)):
        found, whole = of(hint), free(hint)
        assert reached(found) == expected
        for name in expected:
            np.testing.assert_allclose(found[name], whole[name], rtol=1e-4, atol=1e-7, err_msg=name)
    assert np.any(of(0)["projector.0.weight"])
    assert not np.any(of(None)["projector.0.weight"])


@pytest.mark.parametrize("engine", ENGINES)
def test_walls_divide_the_mentee_and_a_layer_above_them_keeps_its_own(engine: str, tmp_path: Path) -> None:
    probes = (
        probe("first", "up-to-probe"),
        probe("last", "up-to-probe"),
        probe("second", "layer"),
        probe("stem", "whole"),
    )
    of = gradients(tmp_path / "scoped", engine, *probes)
    assert [reached(of(hint)) for hint in (0, 1, 2, 3, None)] == [STEM | FIRST, SECOND | LAST, SECOND, STEM, HEAD]


def test_a_layer_is_all_that_lies_between_its_kernel_and_the_probe(tmp_path: Path) -> None:
    net = Net(2)
    x = net.add("Tanh", net.conv("x", 1, 4))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("MatMul", x, net.weight(4, 4))
    x = net.add("LayerNormalization", net.add("Add", x, net.weight(4)), net.weight(4), net.weight(4), out="normed")
    mentee = save(net.model(net.gemm(x, 4, 4)), tmp_path, "S.onnx")
    mentor = save(net.model(net.gemm(x, 4, 4)), tmp_path, "M.onnx")
    asked = recipe(tmp_path, probe=(probe("normed", "layer"),))
    fuse(mentor, mentee, asked, tmp_path / "set")
    assert [check.detail for check in verify(tmp_path / "set") if not check.passed] == []
    engine = open_engine(open_set(tmp_path / "set"), variant="fused")
    start = engine.state()
    moved = {name: value + np.float32(0.1) for name, value in start.parameters.items()}
    engine.load(type(start)(0, moved, start.first_moments, start.second_moments))
    x_in = np.random.default_rng(3).standard_normal((4, *networks.SHAPE)).astype(np.float32)
    weights = LossWeights(alpha=0.0, betas=(1.0,), gamma=0.0, temperature=2.0)
    found = engine.gradients(Batch(x_in, np.zeros(4, np.int64)), weights)[1]
    assert {name for name, value in found.items() if np.any(value)} == {"w2", "w3", "w4", "w5"}


def test_scoped_sets_verify_and_share_what_is_computed_twice(tmp_path: Path) -> None:
    gradients(tmp_path / "scoped", "portable", probe("second", "layer"), probe("first", "up-to-probe"))
    gradients(tmp_path / "free", "portable", probe("second", "whole"), probe("first", "whole"))
    assert [check.detail for check in verify(tmp_path / "scoped" / "set") if not check.passed] == []
    tanhs = []
    for name in ("scoped", "free"):
        graph = onnx.load(tmp_path / name / "set" / "portable_cached.onnx").graph
        assert not [value.name for value in graph.input if value.name.startswith("stop/")]
        tanhs.append(sum(node.op_type == "Tanh" for node in graph.node))
    assert tanhs[0] == tanhs[1]


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ((probe("gemm10", "up-to-probe"),), "the labels would train nothing"),
        (
            (probe("branch0", "up-to-probe"), probe("branch1", "up-to-probe")),
            "leave the mentee's weight w0 without a term",
        ),
        ((probe("pooled", "layer"),), "no weights lie before it"),
    ],
)
def test_scopes_that_contradict_are_refused(probes: tuple[ProbeRecipe, ...], message: str, tmp_path: Path) -> None:
    net = Net(2)
    pooled = net.add("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], out="pooled")
    stem = net.add("Tanh", net.conv(pooled, 1, 4))
    branches = [net.add("Tanh", net.conv(stem, 4, 4), out=f"branch{index}") for index in range(2)]
    rows = net.add("Flatten", net.add("GlobalAveragePool", net.add("Concat", *branches, axis=1)))
    same = save(net.model(net.gemm(rows, 8, 4)), tmp_path, "net.onnx")
    with pytest.raises(UsageError, match=message):
        fuse(same, same, recipe(tmp_path, probe=probes), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_gradient_that_would_stop_between_two_layers_with_the_batch_inside_is_refused(tmp_path: Path) -> None:
    net = Net(2)
    turned = net.add("Transpose", net.add("Reshape", "x", net.constant([0, 8, 8], np.int64)), perm=[1, 0, 2])
    inside = net.add("Tanh", net.add("MatMul", turned, net.weight(8, 4)), out="inside")
    back = net.add("Transpose", net.add("MatMul", inside, net.weight(4, 4)), perm=[1, 0, 2], out="back")
    same = save(net.model(net.gemm(net.add("ReduceMean", back, axes=[1], keepdims=0), 4, 4)), tmp_path, "net.onnx")
    with pytest.raises(UsageError, match=r"would stop the gradient at .*, which is no row a sample"):
        fuse(same, same, recipe(tmp_path, probe=(probe("back", "layer"),)), tmp_path / "set")
