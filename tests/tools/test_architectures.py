"""Does every promised architecture teach: fused, verified, asked about real pictures, and stepped with?"""

from pathlib import Path

import numpy as np
import pytest
from tests.tools.architectures import ARCHITECTURES, CLASS_COUNT, mentee
from tests.tools.networks import NEEDS_TRAINING_BUILD, one_batch_descends, save

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.session import open_session
from mmd_tools.fuse import fuse
from mmd_tools.fuse.network import read_network
from mmd_tools.recipe import InputRecipe, ProbeRecipe, Recipe
from mmd_tools.verify import verify

DIGITS = Path(__file__).parents[2] / "artifacts" / "digits" / "anchor.npz"


def digits(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return real digits as colour pictures of `size` pixels, each pixel repeated."""
    with np.load(DIGITS) as archive:
        inputs, labels = archive["inputs"][:count], archive["labels"][:count]
    places = np.arange(size) * inputs.shape[2] // size
    enlarged = inputs[:, :, places][:, :, :, places]
    return np.repeat(enlarged, 3, axis=1), labels


LIKE_ANOTHER = ("VGG-19", "Inception v2")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_ANOTHER else name for name in ARCHITECTURES]


@NEEDS_TRAINING_BUILD
@pytest.mark.parametrize("name", NAMES)
def test_the_architecture_teaches_a_small_mentee_real_digits(name: str, tmp_path: Path) -> None:
    make, probed = ARCHITECTURES[name]
    mentor = save(make(), tmp_path, "mentor.onnx")
    read = read_network(mentor, "mentor")
    size = read.input_shape[1]
    inputs, labels = digits(8, size)
    np.savez(tmp_path / "anchor.npz", inputs=inputs, labels=labels)
    ours = "hidden" if len(read.shapes[probed]) == 3 else "flat"
    recipe = Recipe(
        name="architecture",
        licence="MIT",
        classes=tuple(map(str, range(CLASS_COUNT))),
        anchor=str(tmp_path / "anchor.npz"),
        input=InputRecipe(scale=1 / 255, mean=(0.2,), std=(0.3,)),
        probe=(ProbeRecipe(mentor=probed, mentee=ours),),
    )
    fuse(mentor, save(mentee(size), tmp_path, "mentee.onnx"), recipe, tmp_path / "set")
    assert [check for check in verify(tmp_path / "set") if not check.passed] == []
    artifact_set = open_set(tmp_path / "set")
    says_one_thing_about_each(artifact_set, inputs)
    one_batch_descends(artifact_set, inputs, labels, steps=4)


def says_one_thing_about_each(artifact_set: ArtifactSet, inputs: np.ndarray) -> None:
    """Hold that the pictures reach the Mentor's logits and its probed layer."""
    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor))
    for values in session.run(None, {manifest.input.name: normalise(inputs[:4], manifest.input)}):
        rows = values.reshape(4, -1)
        assert np.isfinite(rows).all()
        assert (np.ptp(rows, axis=0) > 0).any()
