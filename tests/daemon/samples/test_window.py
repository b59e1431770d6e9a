"""Does a CSV file become the window that it holds, and is every other one refused with a reason?"""

import io
from pathlib import Path

import numpy as np
import pytest

from mmd.errors import InputRefused
from mmd.samples.find import Found, Refusal, find
from mmd.samples.form import SampleForm
from mmd.samples.window import decode_window

FORM = SampleForm("tensor", (2, 1, 3), ("rest", "wave"))
WINDOW = np.array([[[1.0, 2.0, 3.5]], [[-4.0, 5e-1, 6.0]]], np.float32)


def decoded(text: str, form: SampleForm = FORM) -> np.ndarray:
    content = decode_window(io.BytesIO(text.encode()), form)
    return np.frombuffer(content, "<f4").reshape(form.shape)


@pytest.mark.parametrize(
    "text",
    [
        "1,-4\n2,5e-1\n3.5,6\n",
        "x,y\n1,-4\n2,0.5\n3.5,6",
        "x;y\r\n1;-4\r\n2;0.5\r\n3.5;6\r\n\r\n",
        "1\t-4\n2\t0.5\n3.5\t6\n",
        "\ufeffx, y\n 1, -4\n 2, 0.5\n 3.5, 6\n",
        '"x","y"\n"1","-4"\n"2","0.5"\n"3.5","6"\n',
    ],
    ids=["bare", "names", "semicolons", "tabs", "byte order mark", "quotes"],
)
def test_a_line_is_a_step_and_a_column_a_channel(text: str) -> None:
    np.testing.assert_array_equal(decoded(text), WINDOW)


def test_one_column_is_a_window_of_one_channel() -> None:
    np.testing.assert_array_equal(decoded("7\n8\n", SampleForm("tensor", (2,), ("a", "b"))), [7, 8])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 lines of numbers; a window of this set has 3"),
        ("1,2\n" * 4, "has 4 lines of numbers"),
        ("1,2\n1,2\n1,2,3\n", "has 3 columns in line 3; the set has 2 channels"),
        ("x,y\n1,2\n1,two\n1,2\n", "has 'two' in line 3, which is no number"),
        ("1,2\n1,\n1,2\n", "has '' in line 2"),
        ("1,2\n1,nan\n1,2\n", "has nan in line 2; remove or repair it"),
        ("1,2\n1,1e39\n1,2\n", "has 1e39 in line 2"),
        ("1,2\n" * 30_000, "is larger than a window of 3 lines can be"),
    ],
)
def test_what_is_no_window_of_the_set_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputRefused, match=reason):
        decoded(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputRefused, match=r"is no array and no CSV in UTF-8, .* give \.npy, \.npz or \.csv"):
        decode_window(io.BytesIO(b"\xff\xfe1\x00"), FORM)


def test_a_set_of_grids_takes_no_csv() -> None:
    with pytest.raises(InputRefused, match=r"give \.npy or \.npz"):
        decoded("1,2\n3,4\n", SampleForm("tensor", (1, 2, 2), ("a", "b")))


def test_csv_files_are_looked_for_where_windows_are_taken_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "rest").mkdir()
    (tmp_path / "rest" / "1.csv").write_text("1,2\n")
    assert [type(each) for each in find(tmp_path, FORM)] == [Found]
    images = SampleForm("image", (1, 2, 2), ("rest", "wave"))
    (refused,) = find(tmp_path, images)
    assert isinstance(refused, Refusal)
    assert "has the extension .csv" in refused.reason
