"""How much of the samples is in memory at once while models are compared?"""

import math

import pytest

from mmd.artifact.manifest import InputSpec
from mmd.promotion.evaluate import batch_size, lots

IMAGES = [InputSpec(name="x", kind="image", shape=shape) for shape in [(1, 28, 28), (3, 224, 224), (3, 1024, 1024)]]
RECORDINGS = InputSpec(name="x", kind="audio", shape=(1, 40, 61), stored=(48_000,), rate_hz=16_000)


@pytest.mark.parametrize("spec", [*IMAGES, RECORDINGS])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 10_000])
def test_lots_are_whole_batches_of_all_samples_and_take_16_mib_or_one_batch(count: int, spec: InputSpec) -> None:
    size = batch_size(spec.shape)
    cut = list(lots(count, spec))
    assert [place for part in cut for place in range(count)[part]] == list(range(count))
    assert all(part.start % size == 0 for part in cut)
    for part in cut:
        held = len(range(count)[part])
        assert held <= size or held * 4 * math.prod(spec.stored_shape) <= 16 << 20


def test_small_inputs_are_asked_about_64_at_a_time_and_the_largest_alone() -> None:
    assert [batch_size(spec.shape) for spec in IMAGES] == [64, 6, 1]
