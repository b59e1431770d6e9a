"""Do two processors compute the same training steps? Makes the batches and compares the results."""

import json
from dataclasses import dataclass
from pathlib import Path

STEPS = 10
BATCHES = 5
BATCH_SIZE = 16
UNLABELLED = 3
LOSS_TOLERANCE = 1e-5
PARAMETER_TOLERANCE = 1e-4
SAME_ANSWERS = 0.98
PROBABILITY_TOLERANCE = 0.1
"""Of int8: where a number lies between two steps of 1/256 of its range, rounding decides, and a few of them add up."""


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


@dataclass(frozen=True)
class Agreement:
    """Two lots of answers of `mmd predict --json` about the same samples."""

    same: int
    total: int
    furthest: float
    """The largest difference between two probabilities."""

    @property
    def is_tolerated(self) -> bool:
        return 0 < self.total <= self.same / SAME_ANSWERS and self.furthest <= PROBABILITY_TOLERANCE

    def __str__(self) -> str:
        return f"{self.same} of {self.total} labels as on x86, probabilities {self.furthest:.1e}"


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


def compare_answers(reference: Path, other: Path) -> Agreement:
    """Return how far the answers in `other` are from those in `reference`, in the same order."""
    pairs = list(zip(*(json.loads(path.read_text(encoding="utf-8")) for path in (reference, other)), strict=True))
    distances = [
        abs(one["probabilities"][name] - two["probabilities"][name])
        for one, two in pairs
        for name in one["probabilities"]
    ]
    return Agreement(sum(one["label"] == two["label"] for one, two in pairs), len(pairs), max(distances, default=0.0))


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
