"""Does opening an artifact set refuse, in one line, what this version cannot use?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from tests.support import call_mmd, write_fake_set

from mmd.artifact.load import open_set
from mmd.artifact.manifest import FORMAT_VERSION, OptimizerSpec, manifest_path
from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused

Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change) -> Path:
    """Return a set whose manifest is changed."""
    artifact_set = write_fake_set(folder / "set")
    document = json.loads(manifest_path(artifact_set).read_text())
    del document["checksum"]  # as in a set from before there was one
    change(document)
    manifest_path(artifact_set).write_text(json.dumps(document))
    return artifact_set


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        open_set(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    newer = FORMAT_VERSION + 1
    # A newer format may hold anything beside its number.
    folder = changed(tmp_path, lambda document: document.update(format=newer, invented={"later": 1}, classes=7))
    message = refusal(folder)
    assert f"has format {newer}; this mmd reads format {FORMAT_VERSION}" in message
    assert "Upgrade mmd." in message


def test_an_older_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    assert "Build the set again" in refusal(changed(tmp_path, lambda document: document.update(format=0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("classes"), "classes"),
        (lambda document: document.update(invented=1), "invented"),
        (lambda document: document["optimizer"].update(kind="lion"), "lion"),
        (lambda document: document.update(format="new"), "format"),
    ],
)
def test_a_manifest_that_does_not_parse_is_refused_by_its_key(tmp_path: Path, change: Change, message: str) -> None:
    found = refusal(changed(tmp_path, change))
    assert "manifest.json does not parse" in found
    assert message in found


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80])
def test_a_manifest_with_any_byte_changed_is_refused_by_its_name(mask: int, tmp_path: Path) -> None:
    folder = write_fake_set(tmp_path / "set")
    path = manifest_path(folder)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        assert "manifest.json" in refusal(folder)


def test_mmd_init_refuses_a_newer_format_with_exit_code_5(tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda document: document.update(format=FORMAT_VERSION + 1))
    ran = call_mmd("init", "--set", folder, state=tmp_path / "state")
    assert ran.code == ArtifactRefused.exit_code == 5
    assert "Upgrade mmd." in ran.err


def test_a_set_from_before_clipping_and_momentum_is_read(tmp_path: Path) -> None:
    def without_new_keys(document: dict[str, Any]) -> None:
        for key in ("momentum", "nesterov", "clip_norm"):
            del document["optimizer"][key]

    assert open_set(changed(tmp_path, without_new_keys)).manifest.optimizer == OptimizerSpec()


def test_a_graph_with_an_unknown_operator_is_refused_by_its_name(tmp_path: Path) -> None:
    node = helper.make_node("FancyGrad", ["x"], ["y"], name="the_fancy_one")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "step", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "portable_cached.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        ArtifactRefused, match=r"refuses portable_cached\.onnx: .*FancyGrad.*mmd-tools verify"
    ) as caught:
        open_session(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_graph_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "portable_cached.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ArtifactRefused, match=r"refuses portable_cached\.onnx"):
        open_session(path)
