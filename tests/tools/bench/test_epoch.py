"""Does `bench epoch` time both variants on the same batches, and show the cached one as the quicker?"""

import json

from click.testing import CliRunner
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd_tools.bench.epoch import CASES, epoch_command

KEYS = {"case", "batch", "threads", "ms_cached", "ms_fused", "ratio", "ratio_of_round", "cache_bytes_a_row"}


def test_the_mentor_has_the_thirteen_convolutions_of_vgg_16() -> None:
    layers = CASES["32"].mentor_layers
    assert sum(layer.startswith("conv") for layer in layers) == 13
    assert layers.count("pool 2") == 5


@NEEDS_TRAINING_BUILD
def test_reading_what_the_mentor_said_is_quicker_than_asking_it_in_every_step() -> None:
    result = CliRunner().invoke(epoch_command, ["--quick", "--rounds", "2", "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert set(row) >= KEYS
    assert row["ratio"] > 1.5
    assert row["cache_bytes_a_row"] == 2 * (512 + 10)
    assert len(row["ms"]["cached"]) == len(row["ms"]["fused"]) == 2
