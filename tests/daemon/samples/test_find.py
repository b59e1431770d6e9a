"""Are the right files found, with the right labels, and does no link lead round for ever?"""

import os
import socket
from pathlib import Path

import pytest

from mmd.errors import InputRefused
from mmd.samples.find import Found, Refusal, find, opened
from mmd.samples.form import SampleForm

FORM = SampleForm("image", (1, 8, 8), ("cat", "dog"))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def labels(path: Path, label: str | None = None) -> dict[str, str | None]:
    """Return the label of every file found, by its source; fails on a refusal."""
    found = list(find(path, FORM, label))
    assert all(isinstance(item, Found) for item in found), found
    return {item.source: item.label for item in found if isinstance(item, Found)}


def refusals(path: Path, label: str | None = None) -> list[Refusal]:
    return [item for item in find(path, FORM, label) if isinstance(item, Refusal)]


def only_refusal(path: Path) -> str:
    (item,) = find(path, FORM)
    assert isinstance(item, Refusal)
    return str(item)


def test_a_folder_s_subfolders_name_the_classes(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/deep/er/b.JPG", "dog/c.npy", "loose.jpeg", "rows.npz"):
        touch(tmp_path / name)
    assert labels(tmp_path) == {
        "cat/a.png": "cat",
        "cat/deep/er/b.JPG": "cat",
        "dog/c.npy": "dog",
        "loose.jpeg": None,
        "rows.npz": None,
    }


def test_a_label_takes_the_place_of_the_folders_names(tmp_path: Path) -> None:
    touch(tmp_path / "whatever" / "a.png")
    touch(tmp_path / "cat" / "b.png")
    assert set(labels(tmp_path, "dog").values()) == {"dog"}


def test_a_single_file_has_the_label_that_is_given(tmp_path: Path) -> None:
    file = touch(tmp_path / "cat" / "a.png")
    assert labels(file) == {"a.png": None}
    assert labels(file, "dog") == {"a.png": "dog"}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for name in (".DS_Store", ".git/a.png", "cat/.hidden.png", "cat/a.png"):
        touch(tmp_path / name)
    assert list(labels(tmp_path)) == ["cat/a.png"]


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.png", "cat/2.png", "cat/10.png", "a.png"):
        touch(tmp_path / name)
    assert list(labels(tmp_path)) == ["a.png", "b.png", "cat/10.png", "cat/2.png"]


def test_an_unknown_class_is_one_refusal_naming_the_nearest(tmp_path: Path) -> None:
    for number in range(5):
        touch(tmp_path / "cats" / f"{number}.png")
    touch(tmp_path / "dog" / "a.png")
    (refused,) = refusals(tmp_path)
    assert refused.path == tmp_path / "cats"
    assert "did you mean `cat`" in refused.reason


@pytest.mark.parametrize("inside", [[], ["cat"], [".hidden"]])
def test_a_folder_without_samples_is_refused(tmp_path: Path, inside: list[str]) -> None:
    for name in inside:
        (tmp_path / name).mkdir()
    assert "holds no samples" in only_refusal(tmp_path)


def test_an_empty_class_beside_a_full_one_is_fine(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    touch(tmp_path / "cat" / "a.png")
    assert list(labels(tmp_path)) == ["cat/a.png"]


@pytest.mark.parametrize(
    ("name", "shown"), [("a.gif", r"extension .gif"), ("README", "no extension"), ("a.tar", "extension .tar")]
)
def test_other_files_are_refused_by_their_extension(tmp_path: Path, name: str, shown: str) -> None:
    assert shown in only_refusal(touch(tmp_path / name))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in only_refusal(tmp_path / "nothing.png")


def test_a_dangling_link_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone.png")
    assert "link to gone.png, which does not exist" in only_refusal(tmp_path)


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    assert "leads back to itself" in only_refusal(tmp_path)


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "up").symlink_to("..")
    (refused,) = refusals(tmp_path)
    assert refused.path == tmp_path / "cat" / "up"
    assert "symbolic link" in refused.reason


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for number in range(8):
        touch(tmp_path / "cat" / str(number) / "a.png")
        for other in range(8):
            (tmp_path / "cat" / str(number) / f"to-{other}").symlink_to(f"../{other}")
    items = list(find(tmp_path, FORM))
    assert len(items) < 200
    assert len({item.path.resolve() for item in items if isinstance(item, Found)}) == 8


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat").symlink_to(tmp_path / "elsewhere")
    assert labels(tmp_path / "in") == {"cat/a.png": "cat"}


def test_links_to_folders_are_refused_where_that_is_asked(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat").symlink_to(tmp_path / "elsewhere")
    (item,) = find(tmp_path / "in", FORM, follow_folders=False)
    assert isinstance(item, Refusal)
    assert "link to a folder" in item.reason


def test_pipes_and_sockets_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in only_refusal(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
        assert "not a regular file" in only_refusal(tmp_path / "s.png")


def test_opening_a_pipe_that_took_the_place_of_a_file_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputRefused, match="not a regular file"), opened(tmp_path / "a.png"):
        pass


def test_opening_a_file_that_went_away_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="does not exist"), opened(tmp_path / "a.png"):
        pass
