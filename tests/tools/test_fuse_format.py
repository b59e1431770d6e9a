"""Does `artifacts/FORMAT.md` name everything that the format has, and does a set hold to it?"""

from pathlib import Path

import msgspec
import pytest

from mmd.artifact.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Graphs,
    InputSpec,
    LossSpec,
    Manifest,
    OptimizerSpec,
    Parameter,
    ProbePair,
    Schedule,
    TrainingDefaults,
)
from mmd.augmentation import Augmentation
from mmd_tools.fuse.losses import HINT_LOSSES, SOFT_LOSSES
from mmd_tools.presets import PRESETS

FORMAT = (Path(__file__).parents[2] / "artifacts" / "FORMAT.md").read_text()
STRUCTURES = [
    Manifest,
    InputSpec,
    ProbePair,
    LossSpec,
    Schedule,
    OptimizerSpec,
    TrainingDefaults,
    Augmentation,
    Parameter,
    Graphs,
    FileRecord,
]


def test_the_version_is_the_readers() -> None:
    assert FORMAT.startswith(f"# The artifact set, format {FORMAT_VERSION}\n")


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.__name__)
def test_every_key_of_the_manifest_is_described(structure: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(structure):
        assert f"`{field.encode_name}`" in FORMAT


def test_every_file_loss_and_preset_is_described() -> None:
    for name in [*msgspec.structs.asdict(Graphs()).values(), *HINT_LOSSES, *SOFT_LOSSES, *PRESETS]:
        assert f"`{name}`" in FORMAT
