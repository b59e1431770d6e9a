"""Does `fuse` make a set that verifies, for every kind of network and hint loss, and refuse what does not fit?"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file
from tests.tools import networks
from tests.tools.networks import NETWORKS, plain, recipe, save

from mmd.artifact.load import open_set
from mmd.errors import ArtifactRefused, MmdError, UsageError
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd_tools.fuse import fuse
from mmd_tools.fuse.losses import HINT_LOSSES
from mmd_tools.recipe import InputRecipe, LossRecipe, ProbeRecipe
from mmd_tools.verify import TOLERANCE, Check, verify

pytestmark = networks.NEEDS_TRAINING_BUILD

BOTH_ENGINES = [
    "portable cached and portable fused agree",
    "ort_training fused and portable fused agree",
    "ort_training cached and portable cached agree",
]


def made(folder: Path, mentor: onnx.ModelProto | None, mentee: onnx.ModelProto, *probes: ProbeRecipe) -> Path:
    """Fuse in `folder` and return the set."""
    big = save(mentor, folder, "mentor.onnx") if mentor is not None else None
    fuse(big, save(mentee, folder, "mentee.onnx"), recipe(folder, probe=probes), folder / "set")
    return folder / "set"


def failed(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.passed]


MENTEES = {
    "plain": ProbeRecipe(mentor="maxpool2", mentee="maxpool2"),
    "residual": ProbeRecipe(mentor="relu1", mentee="sum"),
    "inception": ProbeRecipe(mentor="relu1", mentee="joined"),
    "mobile": ProbeRecipe(mentor="relu1", mentee="gated"),
    "before_norm": ProbeRecipe(mentor="maxpool2", mentee="relu3"),
    "traced": ProbeRecipe(mentor="maxpool2", mentee="relu1"),
    "old_style": ProbeRecipe(mentor="maxpool2", mentee="relu2"),
}


def test_every_network_of_the_tests_is_fused() -> None:
    assert MENTEES.keys() == NETWORKS.keys()


def test_the_set_says_which_schedule_holds_where_there_are_labels(tmp_path: Path) -> None:
    mentee = save(plain(4), tmp_path, "mentee.onnx")
    for told, loss in (("", LossRecipe()), ("independent", LossRecipe(labelled_schedule="independent"))):
        fuse(None, mentee, recipe(tmp_path, loss=loss), tmp_path / f"set {told}")
        assert open_set(tmp_path / f"set {told}").manifest.loss.labelled_schedule == told


@pytest.mark.parametrize("name", MENTEES)
def test_a_set_of_each_kind_of_mentee_verifies_on_both_engines(name: str, tmp_path: Path) -> None:
    made(tmp_path, plain(8, seed=9), NETWORKS[name](), MENTEES[name])
    checks = verify(tmp_path / "set")
    assert not failed(checks)
    assert set(BOTH_ENGINES) <= {check.name for check in checks}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_kind_of_network_can_be_the_mentor(name: str, tmp_path: Path) -> None:
    made(tmp_path, NETWORKS[name](), plain(2))
    assert not failed(verify(tmp_path / "set"))


@pytest.mark.parametrize("loss", HINT_LOSSES)
@pytest.mark.parametrize(
    ("mentor", "mentee"),
    [("relu1", "relu1"), ("relu1", "maxpool2"), ("maxpool2", "relu1"), ("gemm4", "flatten3")],
    ids=["same map", "mentor larger", "mentee larger", "rows"],
)
def test_each_hint_loss_agrees_on_both_engines(loss: str, mentor: str, mentee: str, tmp_path: Path) -> None:
    if loss == "attention" and mentee == "flatten3":
        pytest.skip("attention compares maps only")
    probe = ProbeRecipe(mentor=mentor, mentee=mentee, loss=loss)  # type: ignore[arg-type]
    made(tmp_path, plain(6, seed=9), plain(3), probe)
    assert not failed(verify(tmp_path / "set"))


def test_maps_without_a_whole_ratio_are_resampled_on_the_mentors_side(tmp_path: Path) -> None:
    net = networks.Net(7)
    x = net.add("Relu", net.conv("x", 1, 4, 3, pads=[0, 0, 0, 0]), out="six")
    mentee = net.model(net.gemm(net.add("Flatten", x), 4 * 36, 4))
    made(tmp_path, plain(4, seed=9), mentee, ProbeRecipe(mentor="relu1", mentee="six"))
    assert not failed(verify(tmp_path / "set"))
    training = onnx.load(tmp_path / "set" / "training_model.onnx")
    assert [node.op_type for node in training.graph.node].count("Resize") == 1


def test_several_probes_may_share_a_layer(tmp_path: Path) -> None:
    probes = [
        ProbeRecipe(mentor="relu1", mentee="relu1", weight=0.5),
        ProbeRecipe(mentor="relu1", mentee="maxpool2", loss="mse"),
        ProbeRecipe(mentor="gemm4", mentee="gemm4", loss="cosine"),
    ]
    manifest = open_set(made(tmp_path, plain(4, seed=9), plain(4), *probes)).manifest
    assert [probe.projector for probe in manifest.probes] == [None, None, None]
    assert manifest.loss.hint_weights == (0.5, 1.0, 1.0)
    mentor = onnx.load(tmp_path / "set" / "mentor.onnx")
    assert [output.name for output in mentor.graph.output] == ["mentor/gemm4", "mentor/relu1", "target/1"]
    assert not failed(verify(tmp_path / "set"))


def test_a_projector_appears_where_channels_differ(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="relu1", mentee="relu1")
    manifest = open_set(made(tmp_path, plain(8), plain(3), probe)).manifest
    assert manifest.probes[0].projector == "projector.0.weight"
    assert manifest.parameters[-1].shape == (8, 3, 1, 1)
    assert manifest.parameters[-1].role == "projector"
    assert "projector.0.weight" not in {t.name for t in onnx.load(tmp_path / "set" / "mentee.onnx").graph.initializer}


def test_the_same_networks_give_the_same_files(tmp_path: Path) -> None:
    hashes = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        out = made(folder, plain(8), plain(3), ProbeRecipe(mentor="relu1", mentee="relu1"))
        files = open_set(out).manifest.files
        hashes.append({name: record.sha256 for name, record in files.items()})
    assert hashes[0] == hashes[1]


def test_no_gradient_reaches_the_mentor(tmp_path: Path) -> None:
    out = made(tmp_path, plain(8), plain(3), ProbeRecipe(mentor="relu1", mentee="relu1"))
    made_there = {name for node in onnx.load(out / "training_model.onnx").graph.node for name in node.output}
    assert not [name for name in made_there if name.startswith("mentor/") and name.endswith("_grad")]


def test_the_mentors_weights_lie_in_the_set_once(tmp_path: Path) -> None:
    out = made(tmp_path, plain(1024), plain(2))
    weights = sum(numpy_helper.to_array(t).nbytes for t in onnx.load(out / "mentor.onnx").graph.initializer)
    holding = [path.name for path in out.iterdir() if path.stat().st_size > weights // 2]
    assert holding == ["mentor.data"]


def test_start_values_are_the_shipped_weights(tmp_path: Path) -> None:
    out = made(tmp_path, plain(4), plain(3))
    start = load_file(out / "parameters.safetensors")
    shipped = {t.name: numpy_helper.to_array(t) for t in onnx.load(out / "mentee.onnx").graph.initializer}
    for name, value in start.items():
        np.testing.assert_array_equal(value, shipped[name])


def test_without_a_mentor_the_set_trains_on_labels_alone(tmp_path: Path) -> None:
    out = made(tmp_path, None, plain(3))
    artifact_set = open_set(out)
    assert artifact_set.manifest.mentor_logits == ""
    assert not (out / "mentor.onnx").exists()
    assert not failed(verify(out))


def test_without_a_mentor_both_variants_take_the_same_memory(tmp_path: Path) -> None:
    known = open_set(made(tmp_path, None, plain(3))).manifest.memory_estimate_bytes
    engines = {"portable", "ort_training", "portable.fused", "ort_training.fused"}
    assert engines | {"portable.in_quarters", "portable.fused.in_quarters"} <= set(known)
    for key in ("portable", "ort_training"):
        assert known[f"{key}.fused"] == known[key]
    assert known["portable.fused.in_quarters"] == known["portable.in_quarters"]


def test_names_of_the_step_are_freed_for_it(tmp_path: Path) -> None:
    net = networks.Net(8)
    x = net.add("Relu", net.conv("x", 1, 4), out="loss")
    x = net.add("Flatten", net.add("Sigmoid", x, out="alpha"), out="step")
    mentee = net.model(net.gemm(x, 256, 4))
    out = made(tmp_path, plain(4), mentee, ProbeRecipe(mentor="relu1", mentee="alpha"))
    assert open_set(out).manifest.probes[0].mentee == "mentee/alpha"
    assert not failed(verify(out))


def test_memory_is_estimated_for_each_engine_and_grows_with_the_batch(tmp_path: Path) -> None:
    from mmd_tools.recipe import TrainingRecipe

    big, small = save(plain(4), tmp_path, "M.onnx"), save(plain(3), tmp_path, "S.onnx")
    estimates = []
    for batch in (8, 64):
        out = tmp_path / f"set{batch}"
        fuse(big, small, recipe(tmp_path, training=TrainingRecipe(batch_size=batch)), out)
        estimates.append(open_set(out).manifest.memory_estimate_bytes)
    assert estimates[0].keys() >= {"portable", "ort_training"}
    for engine, few in estimates[0].items():
        assert 0 < few < estimates[1][engine]


def refused(folder: Path, error: type[MmdError], message: str, **arguments: object) -> None:
    """Check that `fuse` refuses with one line that holds `message`, and leaves no set."""
    fields = {"mentor": plain(4), "mentee": plain(3), **arguments}
    asked = recipe(folder, **{key: value for key, value in fields.items() if key not in ("mentor", "mentee")})
    big = save(fields["mentor"], folder, "M.onnx") if isinstance(fields["mentor"], onnx.ModelProto) else None
    assert isinstance(fields["mentee"], onnx.ModelProto)
    with pytest.raises(error, match=message) as caught:
        fuse(big, save(fields["mentee"], folder, "S.onnx"), asked, folder / "set")
    assert "\n" not in str(caught.value)
    assert not (folder / "set").exists()
    assert not list(folder.glob(".set*"))


def test_a_probe_that_is_not_there_names_its_neighbours(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="relu1", mentee="relu_1")
    refused(tmp_path, UsageError, "mentee S.onnx has no tensor `relu_1` to probe; did you mean `relu1`", probe=(probe,))


def test_a_layer_of_volumes_is_not_mapped(tmp_path: Path) -> None:
    nets = []
    for seed in (0, 1):
        net = networks.Net(seed)
        x = net.add("Relu", net.add("Conv", "x", net.weight(4, 1, 3, 3, 3), net.weight(4)), out="volume")
        nets.append(net.model(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 4, 4), shape=(1, 6, 6, 6)))
    probe = ProbeRecipe(mentor="volume", mentee="volume")
    message = r"cannot be mapped: \[4, 4, 4, 4\] is no row, sequence, tokens or map; the loss `similarity` compares"
    tensor = InputRecipe(kind="tensor")
    refused(tmp_path, UsageError, message, mentor=nets[0], mentee=nets[1], probe=(probe,), input=tensor)


def test_principal_axes_of_a_narrower_mentor_are_refused(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="relu1", mentee="relu1", width="pca")
    refused(tmp_path, UsageError, "takes as many or more", mentor=plain(2), probe=(probe,))


def test_attention_is_refused_for_rows(tmp_path: Path) -> None:
    probe = ProbeRecipe(mentor="gemm4", mentee="gemm4", loss="attention")
    refused(tmp_path, UsageError, "needs maps", probe=(probe,))


def test_different_inputs_are_refused(tmp_path: Path) -> None:
    net = networks.Net()
    mentor = net.model(net.gemm(net.add("Flatten", "x"), 3, 4), shape=(3, 1, 1))
    refused(tmp_path, UsageError, r"takes \[3, 1, 1\] a sample .* \[1, 8, 8\]", mentor=mentor)


@pytest.mark.parametrize("role", ["mentor", "mentee"])
def test_another_number_of_classes_is_refused(role: str, tmp_path: Path) -> None:
    refused(tmp_path, UsageError, f"{role} .* 5 classes apart; the recipe names 4", **{role: plain(4, classes=5)})


def test_probes_without_a_mentor_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, UsageError, "there is no mentor", mentor=None, probe=(ProbeRecipe(mentor="a", mentee="b"),))


def test_an_unsupported_operator_stops_the_build(tmp_path: Path) -> None:
    net = networks.Net()
    x = net.add("Flatten", net.add("Ceil", net.conv("x", 1, 4)))
    refused(tmp_path, ArtifactRefused, "unsupported operator Ceil", mentee=net.model(net.gemm(x, 256, 4)))


def test_an_image_recipe_needs_an_image(tmp_path: Path) -> None:
    net = networks.Net()
    row = net.model(net.gemm("x", 5, 4), shape=(5,))
    refused(tmp_path, UsageError, 'kind = "tensor"', mentor=None, mentee=row)


def test_a_mean_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, UsageError, "input.mean has 3 entries", input=InputRecipe(mean=(0.1, 0.2, 0.3)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((2, 1, 8, 8), np.uint8)}, "no array `labels`"),
        ({"inputs": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(2, int)}, r"stored samples are \[n, 1, 8, 8\]"),
        ({"inputs": np.zeros((2, 1, 8, 8), np.uint8), "labels": np.zeros(3, int)}, r"whole numbers \[2\] fit"),
        ({"inputs": np.zeros((2, 1, 8, 8), np.uint8), "labels": np.full(2, 4)}, r"outside 0\.\.3"),
        ({"inputs": np.full((2, 1, 8, 8), np.nan, np.float32), "labels": np.zeros(2, int)}, "not finite"),
        ({"inputs": np.zeros((2, 1, 8, 8), np.float64), "labels": np.zeros(2, int)}, "float64"),
    ],
)
def test_an_anchor_set_that_does_not_fit_is_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    refused(tmp_path, UsageError, message, anchor=str(path))


def test_an_anchor_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path, UsageError, r"Cannot read the anchor set .*gone\.npz", anchor=str(tmp_path / "gone.npz"))


def test_a_folder_in_use_is_replaced_only_by_force(tmp_path: Path) -> None:
    big, small = save(plain(4), tmp_path, "M.onnx"), save(plain(3), tmp_path, "S.onnx")
    out = tmp_path / "set"
    out.mkdir()
    (out / "precious").touch()
    with pytest.raises(UsageError, match="--force"):
        fuse(big, small, recipe(tmp_path), out)
    assert (out / "precious").exists()
    fuse(big, small, recipe(tmp_path), out, force=True)
    assert not (out / "precious").exists()
    assert not failed(verify(out))


@pytest.mark.parametrize("target", ["there", "empty", "gone"])
def test_a_link_stays_a_link_and_the_folder_behind_it_is_written(target: str, tmp_path: Path) -> None:
    big, small = save(plain(4), tmp_path, "M.onnx"), save(plain(3), tmp_path, "S.onnx")
    behind, link = tmp_path / "disk" / "sets", tmp_path / "set"
    behind.parent.mkdir()
    if target != "gone":
        behind.mkdir()
    if target == "there":
        (behind / "old").touch()
        with pytest.raises(UsageError, match="--force"):
            fuse(big, small, recipe(tmp_path), link.parent / "disk" / "sets")
    link.symlink_to("disk/sets")
    fuse(big, small, recipe(tmp_path), link, force=target == "there")
    assert (link.is_symlink(), link.readlink()) == (True, Path("disk/sets"))
    assert [path.name for path in behind.parent.iterdir()] == ["sets"]
    assert not (behind / "old").exists()
    assert not failed(verify(behind))


def test_differences_are_told_with_the_tolerance(tmp_path: Path) -> None:
    checks = verify(made(tmp_path, plain(4), plain(3)))
    agreement = next(check for check in checks if check.name == BOTH_ENGINES[1])
    assert f"{TOLERANCE:.0e}" in agreement.detail
    assert json.dumps(agreement.detail)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [2, 4], "strides": [2, 4]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 2], "strides": [2, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ],
)
def test_an_average_pool_trains_as_it_infers(attributes: dict[str, object], tmp_path: Path) -> None:
    net = networks.Net()
    x = net.add("AveragePool", net.conv("x", 1, 3), out="pooled", **attributes)
    flat = net.add("Flatten", x)
    shape = networks.shape_of(net, flat)
    mentee = net.model(net.gemm(flat, shape[1], 4))
    out = made(tmp_path, plain(3), mentee)
    assert not failed(verify(out))
    rng = np.random.default_rng(0)
    x_in = rng.standard_normal((5, *networks.SHAPE)).astype(np.float32)
    labels = rng.integers(0, 4, 5)
    logits = networks.run(onnx.load(out / "mentee.onnx"), {"x": x_in})[0]
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels])
    artifact_set = open_set(out)
    weights = LossWeights(alpha=1.0, betas=(), gamma=0.0, temperature=1.0)
    losses, _ = open_engine(artifact_set, variant="fused").gradients(Batch(x_in, labels), weights)
    assert losses.label == pytest.approx(expected, rel=1e-5)
