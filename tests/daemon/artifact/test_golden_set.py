"""Does a set of format 1 that was built once still load, train and serve, with whatever runtime is installed?"""

import numpy as np
from tests.tiny import GOLDEN, tiny_samples

from mmd.artifact.load import normalise, open_set
from mmd.artifact.session import open_session
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine
from mmd.training.mentor_outputs import CachedMentor
from mmd.training.rows import ArrayInputs


def test_the_golden_set_loads_with_every_hash_verified() -> None:
    assert open_set(GOLDEN).manifest.format == 1


def test_the_golden_set_trains_to_a_lower_loss() -> None:
    artifact_set = open_set(GOLDEN)
    inputs, labels = tiny_samples(32, seed=9)
    outputs = CachedMentor(artifact_set, ArrayInputs(inputs)).rows(np.arange(32), np.zeros(32, np.int64))
    batch = Batch(normalise(inputs, artifact_set.manifest.input), labels, outputs)
    engine = open_engine(artifact_set)
    weights = LossWeights(alpha=1.0, betas=(0.1,), gamma=0.5, temperature=artifact_set.manifest.loss.temperature)
    losses = [engine.step(batch, weights, 0.02).total for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_golden_mentor_knows_the_patterns() -> None:
    artifact_set = open_set(GOLDEN)
    inputs, labels = tiny_samples(100, seed=10)
    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor))
    feed = {manifest.input.name: normalise(inputs, manifest.input)}
    logits = np.asarray(session.run([manifest.mentor_logits], feed)[0])
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
