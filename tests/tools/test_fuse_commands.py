"""Do `mmd-tools fuse`, `verify` and `inspect` work as a person runs them?"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tools import networks
from tests.tools.networks import Net, plain, recipe, save

from mmd_tools.cli import COMMANDS

pytestmark = networks.NEEDS_TRAINING_BUILD

RECIPE = """
name = "test"
licence = "MIT"
classes = ["a", "b", "c", "d"]
anchor = "anchor.npz"
[[probe]]
mentor = "relu1"
mentee = "relu1"
"""


def mmd_tools(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmd_tools.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    save(plain(8), tmp_path, "M.onnx")
    save(plain(3), tmp_path, "S.onnx")
    recipe(tmp_path)
    (tmp_path / "R.toml").write_text(RECIPE)
    return tmp_path


def fuse(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    files = ["--mentor", folder / "M.onnx", "--mentee", folder / "S.onnx", "--recipe", folder / "R.toml"]
    return mmd_tools("fuse", *files, "--out", folder / "set", *more)


def test_fuse_is_silent_in_a_pipe_and_verify_lists_its_checks(sources: Path) -> None:
    ran = fuse(sources)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    ran = mmd_tools("verify", sources / "set")
    assert ran.returncode == 0, ran.stderr
    assert "ok     hashes" in ran.stdout
    assert "allowed 1e-04" in ran.stdout
    assert ran.stderr == ""


def test_verify_tells_json(sources: Path) -> None:
    fuse(sources)
    told = json.loads(mmd_tools("verify", sources / "set", "--json").stdout)
    assert told["ok"] is True
    assert {"name", "passed", "detail"} == set(told["checks"][0])


def test_a_damaged_set_ends_with_code_5_and_one_line(sources: Path) -> None:
    fuse(sources)
    (sources / "set" / "checkpoint").write_bytes(b"x")
    ran = mmd_tools("verify", sources / "set")
    assert ran.returncode == 5
    assert ran.stderr.count("\n") == 1
    assert "checkpoint fails its checksum" in ran.stderr


def test_a_recipe_that_does_not_fit_ends_with_code_2_and_one_line(sources: Path) -> None:
    (sources / "R.toml").write_text(RECIPE.replace('mentee = "relu1"', 'mentee = "relu7"'))
    ran = fuse(sources)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "did you mean `relu1`" in ran.stderr


def test_no_mentor_must_be_said(sources: Path) -> None:
    files = ["--mentee", sources / "S.onnx", "--recipe", sources / "R.toml", "--out", sources / "set"]
    ran = mmd_tools("fuse", *files)
    assert ran.returncode == 2
    assert "--no-mentor" in ran.stderr


def test_inspect_lists_what_a_probe_may_name(sources: Path) -> None:
    ran = mmd_tools("inspect", sources / "M.onnx")
    assert ran.returncode == 0
    assert "as mentee: fits" in ran.stdout
    assert any(line.split()[:3] == ["Relu", "relu1", "8x8x8"] for line in ran.stdout.splitlines())


def test_inspect_tells_json_with_refusals(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Ceil", net.norm(net.conv("x", 1, 4), 4), out="normed")
    path = save(net.model(net.gemm(net.add("Flatten", x), 256, 4)), tmp_path, "net.onnx")
    told = json.loads(mmd_tools("inspect", path, "--json").stdout)
    assert told["refused_as_mentor"] is None
    assert "unsupported operator Ceil (normed_node)" in told["refused_as_mentee"]
    assert told["input_shape"] == list(networks.SHAPE)
    assert told["also_known_as"] == {"conv0": "batchnormalization1"}
    assert {"operator": "Ceil", "tensor": "normed", "shape": [4, 8, 8], "parameters": 0} in told["layers"]


def test_inspect_of_what_fits_nowhere_still_says_why(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Hardmax", "x", out="odd")
    path = save(net.model(net.add("Flatten", x)), tmp_path, "net.onnx")
    ran = mmd_tools("inspect", path)
    assert ran.returncode == 0
    assert ran.stdout.count("unsupported operator Hardmax (odd_node)") == 2


def test_every_command_is_listed_and_explained() -> None:
    ran = mmd_tools("--help")
    assert ran.returncode == 0
    assert set(COMMANDS) <= set(ran.stdout.split())
