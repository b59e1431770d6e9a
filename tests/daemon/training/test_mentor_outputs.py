"""Does the Mentor speak once a sample, and is what it said kept whole?"""

from pathlib import Path

import numpy as np
import pytest
from tests.tiny import tiny_samples

from mmd.artifact.load import ArtifactSet, normalise, open_set
from mmd.artifact.session import open_session
from mmd.training.mentor_outputs import SilentMentor, cache_mentor_outputs, has_mentor, output_shapes

ROWS = np.array([3, 0, 39, 3], np.int64)


@pytest.fixture
def artifact_set(tiny_set: Path) -> ArtifactSet:
    return open_set(tiny_set)


def cached(folder: Path, artifact_set: ArtifactSet, seed: int = 5) -> dict[str, bytes]:
    inputs, _ = tiny_samples(40, seed)
    outputs = cache_mentor_outputs(folder, artifact_set, inputs, threads=1)
    return {name: value.tobytes() for name, value in outputs.rows(ROWS).items()}


def test_the_cache_says_what_the_mentor_says(tmp_path: Path, artifact_set: ArtifactSet) -> None:
    inputs, _ = tiny_samples(40, 5)
    rows = cache_mentor_outputs(tmp_path / "mentor", artifact_set, inputs, threads=1).rows(ROWS)
    manifest = artifact_set.manifest
    session = open_session(artifact_set.path(manifest.graphs.mentor))
    names = list(output_shapes(manifest))
    fresh = session.run(names, {manifest.input.name: normalise(inputs[ROWS], manifest.input)})
    for name, value in zip(names, fresh, strict=True):
        np.testing.assert_allclose(rows[name], value, rtol=1e-5, atol=1e-5)


def test_a_second_call_reads_the_files(tmp_path: Path, artifact_set: ArtifactSet) -> None:
    first = cached(tmp_path / "mentor", artifact_set)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "mentor").iterdir()}
    assert cached(tmp_path / "mentor", artifact_set) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mentor").iterdir()} == written


@pytest.mark.parametrize("name", ["00.npy", "01.npy", "index.json"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_cache_is_computed_again_to_the_same_bits(
    tmp_path: Path, artifact_set: ArtifactSet, name: str, damage: str
) -> None:
    first = cached(tmp_path / "mentor", artifact_set)
    path = tmp_path / "mentor" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert cached(tmp_path / "mentor", artifact_set) == first


def test_other_samples_are_asked_about_again(tmp_path: Path, artifact_set: ArtifactSet) -> None:
    assert cached(tmp_path / "mentor", artifact_set, seed=5) != cached(tmp_path / "mentor", artifact_set, seed=6)


def test_a_silent_mentor_gives_zeros_in_the_shapes_that_training_wants(artifact_set: ArtifactSet) -> None:
    rows = SilentMentor(artifact_set.manifest).rows(ROWS)
    assert {name: value.shape[1:] for name, value in rows.items()} == output_shapes(artifact_set.manifest)
    assert not any(value.any() for value in rows.values())


def test_a_set_with_a_mentor_says_so(artifact_set: ArtifactSet) -> None:
    assert has_mentor(artifact_set.manifest)
