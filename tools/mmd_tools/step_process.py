"""What does a process take that opens an artifact set, takes steps of it and asks its Mentee, as the trainer does?

`python -m mmd_tools.step_process SET` prints a `ProcessCost` as JSON. It imports what the trainer imports, no more.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mmd.artifact.export import export_model
from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.session import open_session
from mmd.errors import TrainingFailed
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd.training.mentor_outputs import output_shapes

_STEPS = 3
_ASKED = 64
"""As many samples as the gate asks about at once."""
_MOST_SECONDS = 600


@dataclass(frozen=True)
class ProcessCost:
    """Memory at its peak, and processor time here."""

    bytes: int
    """Resident, with the steps and before the asking."""
    start_ms: float
    """Until the first step: the interpreter, the runtime, the hashes of the set, the graph of the step."""
    open_ms: float
    """To write the Mentee with other weights, and to open it."""
    answer_ms: float
    """Of the Mentee, about one sample of many."""


def noise(artifact_set: ArtifactSet, batch: int) -> tuple[Batch, LossWeights]:
    """Return a batch of noise that fits the cached step of the set, and weights under which every term counts."""
    manifest = artifact_set.manifest
    rng = np.random.default_rng(0)
    shapes = output_shapes(manifest) if manifest.mentor_logits else {}
    fed = Batch(
        inputs=rng.standard_normal((batch, *manifest.input.shape)).astype(np.float32),
        labels=rng.integers(0, len(manifest.classes), batch).astype(np.int64),
        mentor={name: rng.standard_normal((batch, *shape)).astype(np.float32) for name, shape in shapes.items()},
    )
    betas = (0.1,) * len(manifest.probes)
    return fed, LossWeights(1.0, betas, 1.0 if shapes else 0.0, manifest.loss.temperature)


def process_cost(folder: Path) -> ProcessCost:
    """Run this module on the set in `folder`, and return what it says."""
    command = [sys.executable, "-m", "mmd_tools.step_process", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MOST_SECONDS)
    if ran.returncode:
        raise TrainingFailed(f"No step could be taken of {folder}: {ran.stderr.strip().splitlines()[-1]}")
    return msgspec.json.decode(ran.stdout, type=ProcessCost)


def _main(folder: Path) -> None:
    artifact_set = open_set(folder)
    engine = open_engine(artifact_set, name="portable", variant="cached", threads=1)
    fed, weights = noise(artifact_set, artifact_set.manifest.training.batch_size)
    start_ms = time.process_time() * 1e3
    for _ in range(_STEPS):
        engine.step(fed, weights, 1e-6)
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    peak = int(words[words.index("VmHWM:") + 1]) * 1024
    parameters = engine.state().parameters
    began = time.process_time()
    session = open_session(export_model(artifact_set, parameters))
    opened = time.process_time()
    asked = np.repeat(fed.inputs, -(-_ASKED // len(fed.inputs)), axis=0)[:_ASKED]
    session.run([artifact_set.manifest.logits], {artifact_set.manifest.input.name: asked})
    answered = time.process_time()
    cost = ProcessCost(peak, start_ms, (opened - began) * 1e3, (answered - opened) * 1e3 / _ASKED)
    sys.stdout.buffer.write(msgspec.json.encode(cost))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
