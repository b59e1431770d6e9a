"""Does a round on many samples stay within the trainer's memory budget? The shipped set, and the real trainer child."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from mmd.artifact.load import open_set
from mmd.artifact.shipped import shipped_set
from mmd.config import Config, GateConfig, TrainingConfig
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_verdict
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore
from mmd.serving.form import form_of
from mmd.supervisor.rounds import begin_round, trainer_command

BUDGET_MIB = 150


def stored(root: Path, count: int) -> StateDir:
    """Return a state folder of the shipped set with `count` samples: its anchor's, each with a little noise."""
    state = StateDir(root)
    root.mkdir()
    state.artifact_set.symlink_to(shipped_set())
    artifact_set = open_set(shipped_set())
    form = form_of(artifact_set.manifest)
    inputs, labels = artifact_set.anchor()
    rng = np.random.default_rng(0)
    with SampleStore.create(state.samples_db, form, holdout_fraction=0.25) as store:
        for number in range(0, count, 500):
            places = np.arange(number, min(number + 500, count)) % len(inputs)
            noisy = inputs[places].astype(int) + rng.integers(-9, 10, (len(places), *form.shape))
            contents = np.clip(noisy, 0, 255).astype(np.uint8)
            store.add(
                NewSample(content.tobytes(), form.classes[labels[place]], "noise")
                for content, place in zip(contents, places, strict=True)
            )
    ModelStore(state).create_shipped(artifact_set)
    return state


def peak_mib(child: "subprocess.Popen[bytes]") -> float:
    """Wait for the child and return its peak; what wait4 counts begins with the size of the process that forked it."""
    peak = 0.0
    while child.poll() is None:
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) / 1024
        time.sleep(0.01)
    return peak


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", ["cached", "fused"])
def test_the_trainer_needs_no_more_than_its_budget(tmp_path: Path, count: int, variant: str) -> None:
    state = stored(tmp_path / "state", count)
    training = TrainingConfig(epochs=1, views=2, variant=variant)  # type: ignore[arg-type]
    with SampleStore(state.samples_db) as store:
        begin_round(state, Config(training=training, gate=GateConfig(folds=0)), store)
    child = subprocess.Popen(trainer_command(state, 1), stdout=subprocess.DEVNULL)
    peak = peak_mib(child)
    assert child.returncode == 0
    assert read_verdict(state.rounds / "0001") is not None
    assert 50 < peak <= BUDGET_MIB
