"""Does `bench step` compare the same training on every contender, and say what is missing?"""

import json
import sys

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd_tools.bench.cases import CASES, make_weights, onnx_model
from mmd_tools.bench.contenders import python_has_torch
from mmd_tools.bench.step import step_command

KEYS = {
    *("case", "batch", "threads", "ms_portable", "ms_pytorch", "ms_ort_training"),
    *("ratio_to_pytorch", "ratio_to_ort_training", "peak_mib"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_network_of_its_shape(name: str) -> None:
    case = CASES[name]
    model = onnx_model(case, make_weights(case))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": np.ones((2, *case.shape), np.float32)})
    assert logits.shape == (2, case.classes)
    assert np.isfinite(logits).all()


@NEEDS_TRAINING_BUILD
def test_both_engines_start_at_the_same_loss_and_json_has_the_agreed_keys() -> None:
    result = CliRunner().invoke(step_command, ["--json", "--case", "d", "--rounds", "1", "--quick"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["threads"], row["clock"]) for row in rows] == [(1, "cpu"), (2, "wall")]
    row = rows[0]
    assert set(row) >= KEYS
    losses = row["first_loss"]
    assert losses["portable"] == pytest.approx(losses["ort_training"], rel=1e-4)
    assert len(row["ms"]["portable"]) == len(row["ms"]["ort_training"]) == 3
    assert row["ratio_to_ort_training"] > 0
    assert row["peak_mib"]["portable"] > 10


@NEEDS_TRAINING_BUILD
@pytest.mark.skipif(python_has_torch(sys.executable), reason="PyTorch is installed here")
def test_without_pytorch_its_ratio_is_null_and_the_reason_is_said() -> None:
    options = ["--json", "--case", "d", "--rounds", "1", "--quick", "--threads", "1"]
    result = CliRunner().invoke(step_command, options)
    assert json.loads(result.stdout)[0]["ratio_to_pytorch"] is None
    assert "has no PyTorch" in result.stderr
    assert "mmd-daemon[bench]" in result.stderr
