"""Are garments read as they are stored and split once for all, and does every bad file get one clear line?"""

import gzip
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmd.artifact.shipped import shipped_owner
from mmd.errors import InputRefused
from mmd_tools.bench.owners_data import read_pictures
from mmd_tools.prepare import prepare
from mmd_tools.prepare_fashion import TEST_FILES, TRAIN_FILES, read_garments, read_test_garments
from mmd_tools.train_data import Part, part, read_prepared

RECIPE = Path(__file__).parents[2] / "artifacts" / "fashion" / "recipe.toml"


def write_garments(folder: Path, samples: Part) -> None:
    """Write `samples` [n, 1, 28, 28] as Fashion-MNIST's four files."""
    for images, labels in (TRAIN_FILES, TEST_FILES):
        _write_idx(folder / images, samples.inputs[:, 0])
        _write_idx(folder / labels, samples.labels.astype(np.uint8))


def _write_idx(path: Path, array: np.ndarray) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))


@pytest.fixture
def pictures() -> Part:
    """Real pictures that are at hand: the shipped owner's digits."""
    return read_pictures(shipped_owner(), "owner").samples


def test_pictures_keep_their_order_and_their_bytes(tmp_path: Path, pictures: Part) -> None:
    write_garments(tmp_path, pictures)
    for read in (read_garments(tmp_path), read_test_garments(tmp_path)):
        assert np.array_equal(read.inputs, pictures.inputs)
        assert np.array_equal(read.labels, pictures.labels)


def test_no_picture_is_in_two_parts_and_the_anchor_set_is_one_of_them(tmp_path: Path, pictures: Part) -> None:
    write_garments(tmp_path, pictures)
    out, anchor = tmp_path / "fashion.npz", tmp_path / "anchor.npz"
    arguments = ["fashion", "--data", str(tmp_path), "--out", str(out), "--anchor", str(anchor)]
    assert CliRunner().invoke(prepare, arguments, catch_exceptions=False).exit_code == 0
    arrays = read_prepared(out)
    sizes = {name: len(part(arrays, name).labels) for name in ("train", "validation", "anchor")}
    assert sizes == {"train": 100, "validation": 10, "anchor": 2}
    assert sum(sizes.values()) == len(pictures.labels)
    with np.load(anchor) as held:
        assert np.array_equal(held["inputs"], part(arrays, "anchor").inputs)


@pytest.mark.parametrize("name", [*TRAIN_FILES, *TEST_FILES])
@pytest.mark.parametrize("damage", ["missing", "cut", "text", "other"])
def test_a_damaged_file_is_named_in_one_line(damage: str, name: str, tmp_path: Path, pictures: Part) -> None:
    write_garments(tmp_path, pictures)
    path = tmp_path / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "other":
        _write_idx(path, np.zeros((2, 2), np.uint8))
    elif damage != "missing":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"garments\n")
    with pytest.raises(InputRefused) as refused:
        read_garments(tmp_path)
        read_test_garments(tmp_path)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_labels_of_other_pictures_are_refused(tmp_path: Path, pictures: Part) -> None:
    write_garments(tmp_path, pictures)
    _write_idx(tmp_path / TRAIN_FILES[1], pictures.labels[:5].astype(np.uint8))
    with pytest.raises(InputRefused, match="do not belong together"):
        read_garments(tmp_path)
