"""Does every array file become the right rows, or one clear refusal?"""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mmd.errors import InputRefused
from mmd.samples.arrays import ArrayFile, Row
from mmd.samples.form import SampleForm

GREY = SampleForm("image", (1, 2, 3), ("cat", "dog"))
COLOUR = SampleForm("image", (3, 4, 5), ("cat", "dog"))
TENSOR = SampleForm("tensor", (3,), ("cat", "dog"))


def npy_bytes(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def rows_of(data: bytes, form: SampleForm = GREY, *, is_archive: bool = False) -> list[Row]:
    return list(ArrayFile(io.BytesIO(data), form, is_archive=is_archive))


def npy_rows(array: NDArray[np.generic], form: SampleForm = GREY) -> list[Row]:
    return rows_of(npy_bytes(array), form)


def npz_rows(form: SampleForm = GREY, **arrays: NDArray[np.generic]) -> list[Row]:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return rows_of(buffer.getvalue(), form, is_archive=True)


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3), (2, 3, 1)])
def test_one_picture_may_have_its_channel_in_front_behind_or_left_out(shape: tuple[int, ...]) -> None:
    values = pixels(*shape)
    assert npy_rows(values) == [Row(values.tobytes(), None, None)]


@pytest.mark.parametrize("shape", [(4, 1, 2, 3), (4, 2, 3), (4, 2, 3, 1)])
def test_a_batch_gives_its_rows_with_their_numbers(shape: tuple[int, ...]) -> None:
    values = pixels(*shape)
    rows = npy_rows(values)
    assert [row.index for row in rows] == [0, 1, 2, 3]
    assert b"".join(row.content for row in rows) == values.tobytes()


def test_channels_behind_are_moved_to_the_front() -> None:
    values = pixels(2, 4, 5, 3)
    first, second = npy_rows(values, COLOUR)
    assert first.content == values[0].transpose(2, 0, 1).tobytes()
    assert second.content == values[1].transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_from_zero_to_one_are_scaled_to_bytes(kind: str) -> None:
    values = np.array([[0, 0.5, 1], [0.25, 0, 1]], kind)
    (row,) = npy_rows(values)
    assert list(row.content) == [0, 128, 255, 64, 0, 255]


def test_floats_beyond_one_are_taken_as_bytes() -> None:
    (row,) = npy_rows(np.array([[0, 1, 2], [3, 254.6, 255]]))
    assert list(row.content) == [0, 1, 2, 3, 255, 255]


def test_whole_numbers_of_any_width_are_taken_as_bytes() -> None:
    (row,) = npy_rows(np.array([[0, 1, 2], [3, 254, 255]], np.int64))
    assert list(row.content) == [0, 1, 2, 3, 254, 255]


@pytest.mark.parametrize("value", [-1, 256, 1000])
def test_values_that_are_no_bytes_are_refused(value: int) -> None:
    with pytest.raises(InputRefused, match="expected 0 to 255"):
        npy_rows(np.full((2, 3), value, np.int32))


def test_a_tensor_keeps_its_floats() -> None:
    values = np.array([[0.1, -5, 1e9], [1, 2, 3]], np.float64)
    rows = npy_rows(values, TENSOR)
    assert np.frombuffer(rows[0].content, np.float32).tolist() == values[0].astype(np.float32).tolist()


def test_a_tensor_takes_whole_numbers_too() -> None:
    (row,) = npy_rows(np.array([1, 2, 3], np.uint8), TENSOR)
    assert np.frombuffer(row.content, np.float32).tolist() == [1, 2, 3]


def test_values_beyond_float32_are_refused() -> None:
    with pytest.raises(InputRefused, match="float32"):
        npy_rows(np.array([1e300, 0, 0]), TENSOR)


def test_column_major_arrays_are_read_right() -> None:
    values = pixels(4, 2, 3)
    assert npy_rows(np.asfortranarray(values)) == npy_rows(values)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_numbers_that_are_not_finite_are_refused_naming_the_row(value: float, name: str) -> None:
    values = np.zeros((5, 2, 3))
    values[3, 1, 1] = value
    with pytest.raises(InputRefused, match=f"{name}.* in row 3"):
        npy_rows(values)


def test_a_bad_row_is_named_in_a_file_of_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmd.samples.arrays._BLOCK_BYTES", 64)
    values = np.zeros((50, 3), np.float32)
    values[41, 0] = np.nan
    with pytest.raises(InputRefused, match="row 41"):
        npy_rows(values, TENSOR)
    assert len(npy_rows(values[:41], TENSOR)) == 41


@pytest.mark.parametrize("shape", [(9, 9), (4, 9, 9), (1, 2, 3, 1, 1), (), (6,), (2, 1, 3, 2)])
def test_a_wrong_shape_is_refused_saying_expected_and_got(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputRefused, match=f"has shape {'x'.join(map(str, shape)) or 'scalar'}; expected 1x2x3"):
        npy_rows(np.zeros(shape, np.uint8))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputRefused, match="holds 0 samples"):
        npy_rows(np.zeros((0, 2, 3), np.uint8))


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([True]), np.array([1j])])
def test_values_that_are_no_numbers_are_refused_by_type(array: NDArray[np.generic]) -> None:
    with pytest.raises(InputRefused, match="of type"):
        npy_rows(array)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "gone off",))  # type: ignore[return-value]

    with pytest.raises(InputRefused, match="Python objects"):
        npy_rows(np.array([Bomb()], object))
    with pytest.raises(InputRefused, match="type object"):
        npz_rows(x=pixels(1, 2, 3), y=np.array([Bomb()], object))
    assert not list(tmp_path.iterdir())


def test_labels_may_be_class_numbers() -> None:
    rows = npz_rows(inputs=pixels(3, 2, 3), labels=np.array([1, -1, 0]))
    assert [row.label for row in rows] == ["dog", None, "cat"]


def test_labels_may_be_class_names() -> None:
    rows = npz_rows(x=pixels(3, 2, 3), y=np.array(["dog", "", "cat"]))
    assert [row.label for row in rows] == ["dog", None, "cat"]


def test_one_sample_may_have_one_label() -> None:
    assert npz_rows(x=pixels(2, 3), y=np.array(1))[0].label == "dog"


def test_an_unknown_name_is_refused_naming_the_row_and_the_nearest() -> None:
    with pytest.raises(InputRefused, match=r"row 1: .*`dgo`.*`dog`"):
        npz_rows(x=pixels(2, 2, 3), y=np.array(["cat", "dgo"]))


@pytest.mark.parametrize("number", [2, -2, 99])
def test_an_unknown_number_is_refused_naming_the_row(number: int) -> None:
    with pytest.raises(InputRefused, match=f"row 1: {number} is no class number"):
        npz_rows(x=pixels(2, 2, 3), y=np.array([0, number]))


def test_labels_must_pair_up_with_inputs() -> None:
    with pytest.raises(InputRefused, match="3 inputs and 2 labels"):
        npz_rows(x=pixels(3, 2, 3), y=np.array([0, 1]))


@pytest.mark.parametrize("labels", [np.zeros((3, 2), np.int64), np.zeros(3)])
def test_labels_of_another_kind_are_refused(labels: NDArray[np.generic]) -> None:
    with pytest.raises(InputRefused, match="class number or class name"):
        npz_rows(x=pixels(3, 2, 3), y=labels)


def test_an_archive_without_inputs_is_refused_saying_what_it_holds() -> None:
    with pytest.raises(InputRefused, match="holds pictures; expected an array named inputs or x"):
        npz_rows(pictures=pixels(3, 2, 3))


def test_more_than_the_store_may_hold_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputRefused, match="quota"):
        ArrayFile(io.BytesIO(npy_bytes(pixels(100, 2, 3))), GREY, is_archive=False, max_bytes=500)


def test_a_header_that_promises_more_than_the_file_has_is_refused() -> None:
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1_000_000, 2, 3)}
    np.lib.format.write_array_header_1_0(buffer, header)
    with pytest.raises(InputRefused, match="bytes are missing"):
        rows_of(buffer.getvalue())


def test_a_negative_count_is_refused() -> None:
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (-5, 2, 3)}
    np.lib.format.write_array_header_1_0(buffer, header)
    with pytest.raises(InputRefused, match="holds -5 samples"):
        rows_of(buffer.getvalue())


def test_a_later_format_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"version 3\.0"):
        rows_of(b"\x93NUMPY\x03\x00" + bytes(100))


def test_an_encrypted_archive_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", npy_bytes(pixels(2, 3)))
    data = bytearray(buffer.getvalue())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    with pytest.raises(InputRefused, match="encrypted"):
        rows_of(bytes(data), is_archive=True)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_never_writes_is_refused(compression: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("x.npy", npy_bytes(pixels(2, 3)))
    with pytest.raises(InputRefused, match="never writes"):
        rows_of(buffer.getvalue(), is_archive=True)


@pytest.mark.parametrize("is_archive", [False, True])
def test_a_file_cut_anywhere_is_refused(is_archive: bool) -> None:
    buffer = io.BytesIO()
    if is_archive:
        np.savez(buffer, x=pixels(3, 2, 3), y=np.array([0, 1, 0]))
    else:
        np.save(buffer, pixels(3, 2, 3))
    whole = buffer.getvalue()
    for length in range(0, len(whole), 3):
        with pytest.raises(InputRefused):
            rows_of(whole[:length], is_archive=is_archive)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.just(2), st.just(3)), elements=st.integers(0, 255)))
def test_bytes_come_back_as_they_were_saved(values: NDArray[np.uint8]) -> None:
    assert b"".join(row.content for row in npy_rows(values)) == values.tobytes()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(width=32)))
def test_floats_are_stored_exactly_or_refused_for_what_they_are(values: NDArray[np.float32]) -> None:
    if np.isfinite(values).all():
        assert b"".join(row.content for row in npy_rows(values, TENSOR)) == values.tobytes()
    else:
        with pytest.raises(InputRefused, match="row"):
            npy_rows(values, TENSOR)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_never_a_crash(data: st.DataObject) -> None:
    is_archive = data.draw(st.booleans())
    buffer = io.BytesIO()
    if is_archive:
        np.savez_compressed(buffer, x=pixels(3, 2, 3), y=np.array([0, 1, 0]))
    else:
        np.save(buffer, pixels(3, 2, 3))
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = rows_of(bytes(damaged), is_archive=is_archive)
    except InputRefused as refusal:
        assert "\n" not in str(refusal)
    else:
        assert all(len(row.content) == GREY.content_bytes for row in rows)


def test_a_window_of_measurements_may_lie_steps_first() -> None:
    form = SampleForm("tensor", (3, 1, 8), ("a", "b"), 50.0)
    window = np.arange(24, dtype=np.float32).reshape(3, 8)
    for array in (window, window.T, window[:, None], np.stack([window.T, window.T])):
        assert {row.content for row in npy_rows(array, form)} == {window.tobytes()}


@pytest.mark.parametrize(("rate_hz", "told"), [(50, ""), (50.0, ""), (100, "was taken at 100 Hz"), ("x", "a rate of")])
def test_a_window_of_another_rate_is_refused(rate_hz: object, told: str) -> None:
    form = SampleForm("tensor", (8,), ("a", "b"), 50.0)
    if not told:
        assert len(npz_rows(form, inputs=np.zeros(8), rate_hz=np.array(rate_hz))) == 1
        return
    with pytest.raises(InputRefused, match=told):
        npz_rows(form, inputs=np.zeros(8), rate_hz=np.array(rate_hz))
