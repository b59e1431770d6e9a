"""How much memory does a process take that opens an artifact set and takes steps of it, as the trainer does?

`python -m mmd_tools.step_process SET` prints its resident peak in bytes. It imports what the trainer imports, no more.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from mmd.artifact.load import ArtifactSet, open_set
from mmd.errors import TrainingFailed
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd.training.mentor_outputs import output_shapes

_STEPS = 3
_MOST_SECONDS = 600


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


def process_bytes(folder: Path) -> int:
    """Run this module on the set in `folder`, and return what it says."""
    command = [sys.executable, "-m", "mmd_tools.step_process", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MOST_SECONDS)
    if ran.returncode:
        raise TrainingFailed(f"No step could be taken of {folder}: {ran.stderr.strip().splitlines()[-1]}")
    return int(ran.stdout)


def _main(folder: Path) -> None:
    artifact_set = open_set(folder)
    engine = open_engine(artifact_set, name="portable", variant="cached", threads=1)
    fed, weights = noise(artifact_set, artifact_set.manifest.training.batch_size)
    for _ in range(_STEPS):
        engine.step(fed, weights, 1e-6)
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    sys.stdout.write(f"{int(words[words.index('VmHWM:') + 1]) * 1024}\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
