"""Do two processors compute the same training steps? Makes the batches and compares the results."""

from dataclasses import dataclass
from pathlib import Path

STEPS = 10
BATCHES = 5
BATCH_SIZE = 16
UNLABELLED = 3
LOSS_TOLERANCE = 1e-5
PARAMETER_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Difference:
    """The largest differences between two results of `mmd-tools step`, relative to the size of what is compared."""

    losses: float
    gradients: float
    parameters: float

    @property
    def is_tolerated(self) -> bool:
        return (
            self.losses <= LOSS_TOLERANCE
            and self.gradients <= PARAMETER_TOLERANCE
            and self.parameters <= PARAMETER_TOLERANCE
        )

    def __str__(self) -> str:
        return f"losses {self.losses:.1e}, gradients {self.gradients:.1e}, parameters {self.parameters:.1e}"


def write_batches(artifact_set: Path, path: Path) -> None:
    """Write normalised batches of the set's own anchor samples; a few of them lose their labels."""
    import numpy as np

    from mmd.artifact.load import open_set

    opened = open_set(artifact_set)
    manifest = opened.manifest
    with np.load(opened.path(manifest.graphs.anchor)) as anchor:
        stored, labels = anchor["inputs"], anchor["labels"].astype(np.int64)
    chosen = np.random.default_rng(3).choice(len(stored), BATCHES * BATCH_SIZE, replace=len(stored) < 80)
    channels = (-1, *(1 for _ in manifest.input.shape[1:]))
    mean, std = (np.reshape(values, channels) for values in (manifest.input.mean, manifest.input.std))
    inputs = ((stored[chosen] * manifest.input.scale - mean) / std).astype(np.float32)
    labels = labels[chosen]
    labels[:UNLABELLED] = -1
    shape = (BATCHES, BATCH_SIZE)
    np.savez(path, inputs=inputs.reshape(*shape, *manifest.input.shape), labels=labels.reshape(shape))


def compare(reference: Path, other: Path) -> Difference:
    """Return how far `other` is from `reference`, both written by `mmd-tools step`.

    Of a loss: |a - b| / |a| at the worst step. Of a gradient or parameter: the largest |a - b| of a tensor, divided by
    the largest |a| of that tensor; a number near zero would say nothing about itself.
    """
    import numpy as np

    with np.load(reference) as a, np.load(other) as b:
        if set(a.files) != set(b.files):
            raise ValueError(f"the results have different names: {sorted(set(a.files) ^ set(b.files))[:5]}")
        worst = {"losses": 0.0, "grad": 0.0, "param": 0.0}
        for name in a.files:
            kind = name.split(".", 1)[0]
            if kind not in worst:
                continue
            one, two = a[name].astype(np.float64), b[name].astype(np.float64)
            size = np.abs(one) if kind == "losses" else np.abs(one).max()
            distance = float((np.abs(one - two) / np.maximum(size, np.finfo(np.float32).tiny)).max())
            # Not max(): it would let a NaN pass.
            worst[kind] = distance if not distance <= worst[kind] else worst[kind]
    return Difference(worst["losses"], worst["grad"], worst["param"])
