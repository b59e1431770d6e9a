"""Does `mmd ingest` take every good file, and refuse every bad one in one clear line with exit code 3?"""

import functools
import io
import json
import os
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support import (
    call_mmd,
    class_counts,
    grey,
    initialised_state,
    png_bytes,
    run_mmd,
    write_class_folders,
    write_png,
)

from mmd.samples.store import SampleStore


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder for 8 x 8 grey pictures with the classes `cat` and `dog`."""
    return initialised_state(tmp_path)


def stored(state: Path) -> int:
    with SampleStore(state / "samples.db") as store:
        return store.counts().total


def truncated_png(path: Path) -> Path:
    file = path / "truncated.png"
    data = png_bytes(grey(1, size=(64, 64)))
    file.write_bytes(data[: len(data) // 2])
    return file


def truncated_jpeg(path: Path) -> Path:
    buffer = io.BytesIO()
    grey(1, size=(64, 64)).save(buffer, "JPEG")
    file = path / "truncated.jpg"
    file.write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    return file


def text_named_png(path: Path) -> Path:
    file = path / "text.png"
    file.write_text("I am no picture.\n")
    return file


def empty_file(path: Path) -> Path:
    file = path / "empty.png"
    file.touch()
    return file


def array(path: Path, values: object) -> Path:
    np.save(path / "array.npy", np.asarray(values))
    return path / "array.npy"


def nan_in_an_array(path: Path) -> Path:
    values = np.zeros((5, 8, 8))
    values[2, 3, 4] = np.nan
    return array(path, values)


def wrong_shape(path: Path) -> Path:
    return array(path, np.zeros((5, 9, 7), np.uint8))


def pickled_objects(path: Path) -> Path:
    return array(path, np.array([{}, []], object))


def truncated_array(path: Path) -> Path:
    file = array(path, np.zeros((5, 8, 8), np.uint8))
    os.truncate(file, file.stat().st_size - 3)
    return file


def unknown_label_in_a_file(path: Path) -> Path:
    file = path / "rows.npz"
    np.savez(file, x=np.zeros((2, 8, 8), np.uint8), y=np.array(["cat", "dgo"]))
    return file


def unknown_class_folder(path: Path) -> Path:
    write_class_folders(path / "in", {"dgo": 3})
    return path / "in"


def empty_folder(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def missing(path: Path) -> Path:
    return path / "missing.png"


def folder_named_png(path: Path) -> Path:
    (path / "folder.png").mkdir()
    return path / "folder.png"


def dangling_link(path: Path) -> Path:
    (path / "link.png").symlink_to("gone.png")
    return path / "link.png"


def pipe(path: Path) -> Path:
    os.mkfifo(path / "pipe.png")
    return path / "pipe.png"


def looping_link(path: Path) -> Path:
    (path / "loop.png").symlink_to("loop.png")
    return path / "loop.png"


def looping_folders(path: Path) -> Path:
    (path / "in" / "cat").mkdir(parents=True)
    (path / "in" / "cat" / "again").symlink_to("..")
    return path / "in"


@functools.cache
def whole_png(width: int, height: int) -> bytes:
    """Return a valid grey PNG, made without ever holding its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    line = bytes(width + 1)
    pixels = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def two_hundred_megapixels(path: Path) -> Path:
    file = path / "huge.png"
    file.write_bytes(whole_png(20_000, 10_000))
    return file


def other_extension(path: Path) -> Path:
    (path / "notes.txt").write_text("x")
    return path / "notes.txt"


BAD: dict[Callable[[Path], Path], str] = {
    truncated_png: "truncated",
    truncated_jpeg: "truncated",
    text_named_png: "looks like text",
    empty_file: "the file is empty",
    nan_in_an_array: "has NaN in row 2",
    wrong_shape: "has shape 5x9x7; expected 1x8x8",
    pickled_objects: "Python objects, which are never loaded",
    truncated_array: "3 bytes are missing",
    unknown_label_in_a_file: "row 1: the artifact set knows no label `dgo`; did you mean `dog`?",
    unknown_class_folder: "the artifact set knows no label `dgo`; did you mean `dog`?",
    empty_folder: "holds no samples",
    missing: "does not exist",
    folder_named_png: "holds no samples",
    dangling_link: "link to gone.png, which does not exist",
    pipe: "not a regular file",
    looping_link: "symbolic link that leads back to itself",
    looping_folders: "symbolic link",
    two_hundred_megapixels: "20000 x 10000 = 200,000,000 pixels",
    other_extension: "extension .txt",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_one_clear_line_with_exit_code_3_and_nothing_is_stored(
    make: Callable[[Path], Path], state: Path, tmp_path: Path
) -> None:
    path = make(tmp_path)
    ran = call_mmd("ingest", path, state=state)
    assert ran.code == 3
    (line,) = ran.error_lines
    assert line.startswith(f"mmd: refused {path}")
    assert BAD[make] in line
    assert stored(state) == 0


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_keeps_no_good_file_out(make: Callable[[Path], Path], state: Path, tmp_path: Path) -> None:
    path = make(tmp_path)
    ran = call_mmd(
        "ingest", write_png(tmp_path / "good.png", 1), path, write_png(tmp_path / "good2.png", 2), state=state
    )
    assert ran.code == 3
    assert len(ran.error_lines) == 1
    assert stored(state) == 2


def test_a_huge_picture_is_refused_without_being_decoded(state: Path, tmp_path: Path) -> None:
    """200 megapixels of grey are 200 MB; the command must stay far below that."""
    path = two_hundred_megapixels(tmp_path)
    # VmHWM, not ru_maxrss: the latter outlives exec, and would count this process as well.
    code = (
        "import sys; from mmd.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end:\n"
        "    status = open('/proc/self/status').read()\n"
        "    print(status.split('VmHWM:')[1].split()[0]); sys.exit(end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest", path, "--state-dir", state], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert int(done.stdout.split()[-1]) < 150 * 1024


def test_a_file_that_may_not_be_read_is_named(state: Path, tmp_path: Path) -> None:
    path = write_png(tmp_path / "secret.png", 1)
    path.chmod(0)
    _open_for_others(tmp_path, state)
    told = f"mmd: refused {path}: cannot be read (permission denied); change its owner or mode.\n"
    assert _without_rights("ingest", path, "--state-dir", state) == (3, told)
    assert stored(state) == 0


def test_a_folder_that_may_not_be_read_is_named(state: Path, tmp_path: Path) -> None:
    folder = write_png(tmp_path / "in" / "a.png", 1).parent
    folder.chmod(0)
    _open_for_others(tmp_path, state)
    code, errors = _without_rights("ingest", folder, "--state-dir", state)
    assert (code, len(errors.splitlines())) == (3, 1), errors
    folder.chmod(stat.S_IRWXU)


def test_a_folder_that_nobody_else_may_empty_does_not_keep_the_rest_of_the_inbox(state: Path, tmp_path: Path) -> None:
    inbox = state / "inbox"
    (inbox / "dog").mkdir(parents=True)
    _open_for_others(tmp_path, state)
    files = [write_png(inbox / "dog" / "a.png", 1), inbox / "dog" / "notes.txt", write_png(inbox / "loose.png", 2)]
    files[1].write_text("text")
    for file in files:
        os.utime(file, (1, 1))
    files[0].parent.chmod(0o555)
    for _ in range(2):
        code, errors = _without_rights("ingest", "--inbox", "--state-dir", state)
    files[0].parent.chmod(0o777)
    stays = (
        f"mmd: 2 of {inbox / 'dog'} stay there: only its owner may remove them; chmod g+w {inbox / 'dog'} lets others."
    )
    assert (code, errors.splitlines()[-1]) == (3, stays), errors
    assert stored(state) == 2
    assert [file.exists() for file in files] == [True, True, False]
    assert list((inbox / ".refused").iterdir()) == []


def _open_for_others(tmp_path: Path, state: Path) -> None:
    """Let another user in, down to the state folder."""
    for folder in (tmp_path, *tmp_path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
        if folder.name.startswith("pytest-of-"):
            break
    for path in (state, *state.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def _without_rights(*arguments: object) -> tuple[int, str]:
    """Run `mmd` as somebody whom modes hold back; return its exit code and what it said on stderr."""
    if os.geteuid() == 0:
        ran = _run_as_nobody(*arguments)
        return ran.returncode, ran.stderr
    called = call_mmd(*arguments)
    return called.code, called.err


def _run_as_nobody(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `mmd` in a child that imports everything as root and then gives its rights away."""
    code = (
        "import os, sys, urllib.request, PIL.Image, numpy; PIL.Image.init()\n"
        "import mmd.cli.ingest, mmd.samples.ingest, mmd.samples.inbox_pass\n"
        "os.environ['HOME'] = '/'; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from mmd.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_good_folder_is_stored_with_exit_code_0_and_a_summary(state: Path, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 6, "dog": 4})
    ran = call_mmd("ingest", folder, state=state)
    with SampleStore(state / "samples.db") as store:
        held = len(store.holdout_ids())
        assert class_counts(store) == {"cat": 6, "dog": 4}
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"stored 10 ({held} held out)\n"


def test_the_summary_counts_what_was_stored_already_and_what_was_refused(state: Path, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 2})
    call_mmd("ingest", folder, state=state)
    write_png(folder / "cat" / "new.png", 99)
    (folder / "cat" / "bad.png").write_text("x")
    ran = call_mmd("ingest", folder, state=state)
    assert ran.code == 3
    assert ran.out.splitlines()[-1].replace("(1 held out)", "(0 held out)") == (
        "stored 1 (0 held out), already stored 2, refused 1"
    )


def test_the_same_file_twice_is_stored_once_and_said_so(state: Path, tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", 1)
    ran = call_mmd("ingest", path, path, state=state)
    assert ran.code == 0
    assert stored(state) == 1
    assert f"already stored: {path} (as " in ran.out
    assert ran.out.splitlines()[-1].endswith("already stored 1")


def test_many_repeats_are_not_all_listed(state: Path, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 15})
    call_mmd("ingest", folder, state=state)
    lines = call_mmd("ingest", folder, state=state).out.splitlines()
    assert lines[-2:] == ["already stored: 5 more", "stored 0 (0 held out), already stored 15"]
    assert len(lines) == 12


def test_another_label_for_the_same_content_is_refused_saying_what_to_do(state: Path, tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", 1)
    call_mmd("ingest", path, "--label", "cat", state=state)
    ran = call_mmd("ingest", path, "--label", "dog", state=state)
    assert ran.code == 3
    (line,) = ran.error_lines
    command = line.partition("to change it: mmd ")[2].split()
    assert call_mmd(*command, state=state).code == 0
    with SampleStore(state / "samples.db") as store:
        assert class_counts(store) == {"dog": 1}


def test_a_label_that_comes_later_is_taken_over_and_said_so(state: Path, tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", 1)
    call_mmd("ingest", path, state=state)
    ran = call_mmd("ingest", path, "--label", "dog", state=state)
    assert ran.code == 0
    assert "now it is `dog`" in ran.out
    assert ran.out.splitlines()[-1] == "stored 0 (0 held out), labelled 1"


def test_a_label_that_the_set_does_not_know_is_refused_before_anything(state: Path, tmp_path: Path) -> None:
    ran = call_mmd("ingest", write_png(tmp_path / "a.png", 1), "--label", "dgo", state=state)
    assert ran.code == 3
    (line,) = ran.error_lines
    assert "no label `dgo`; did you mean `dog`" in line
    assert stored(state) == 0


def test_json_tells_what_became_of_everything(state: Path, tmp_path: Path) -> None:
    good = write_png(tmp_path / "a.png", 1)
    bad = text_named_png(tmp_path)
    ran = call_mmd("ingest", good, bad, "--label", "cat", "--json", state=state)
    told = json.loads(ran.out)
    assert (ran.code, ran.err) == (3, "")
    assert told["stored"] == 1
    assert told["refused"][0]["path"] == str(bad)
    (sample,) = told["samples"]
    assert (sample["path"], sample["outcome"], sample["label"]) == (str(good), "stored", "cat")


def test_a_full_store_is_refused_saying_how_to_make_room(state: Path, tmp_path: Path) -> None:
    config = tmp_path / "mmd.toml"
    config.write_text("[samples]\nquota_mib = 0.0001\n")
    ran = call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 2}), state=state, config=config)
    assert ran.code == 3
    (line,) = ran.error_lines
    assert "samples.quota_mib = 0.0001" in line
    assert stored(state) == 1


def test_nothing_named_is_a_usage_error(state: Path) -> None:
    assert call_mmd("ingest", state=state).code == 2
    assert call_mmd("ingest", "--inbox", "--label", "cat", state=state).code == 2


def test_without_init_it_says_what_to_do(tmp_path: Path) -> None:
    ran = call_mmd("ingest", tmp_path, state=tmp_path / "state")
    assert ran.code == 2
    assert "mmd init" in ran.err


def test_a_damaged_store_is_exit_code_4(state: Path, tmp_path: Path) -> None:
    for path in state.glob("samples.db*"):
        path.unlink()
    (state / "samples.db").write_bytes(b"no database" * 100)
    ran = call_mmd("ingest", write_png(tmp_path / "a.png", 1), state=state)
    assert (ran.code, len(ran.error_lines)) == (4, 1)


def test_the_inbox_is_emptied(state: Path) -> None:
    path = write_png(state / "inbox" / "cat" / "a.png", 1)
    os.utime(path, (1, 1))
    ran = call_mmd("ingest", "--inbox", state=state)
    assert ran.code == 0
    assert stored(state) == 1
    assert not path.exists()


def test_what_changed_just_now_is_left_in_the_inbox_and_said_so(state: Path) -> None:
    path = write_png(state / "inbox" / "a.png", 1)
    ran = call_mmd("ingest", "--inbox", state=state)
    assert ran.out == "stored 0 (0 held out), left 1 that changed just now for the next pass\n"
    assert path.exists()


def test_what_the_inbox_refuses_is_named_with_exit_code_3(state: Path) -> None:
    path = state / "inbox" / "bad.png"
    path.write_text("text")
    os.utime(path, (1, 1))
    ran = call_mmd("ingest", "--inbox", state=state)
    assert (ran.code, len(ran.error_lines)) == (3, 1)
    assert (state / "inbox" / ".refused" / "bad.png").exists()


def test_a_relative_path_and_an_odd_name_are_fine(state: Path, tmp_path: Path) -> None:
    path = write_png(tmp_path / "näme with\ttab.png", 1)
    done = run_mmd("ingest", os.path.relpath(path), state=state)
    assert (done.code, stored(state)) == (0, 1)
    assert "n\u00e4me with?tab.png" in run_mmd("samples", state=state).out


def test_a_terminal_sees_a_bar_that_leaves_no_trace_in_the_output(state: Path, tmp_path: Path) -> None:
    ran = call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 120}), state=state, on_terminal=True)
    assert ran.code == 0
    assert "Ingesting" in ran.err
    assert ran.out.startswith("stored 120 (")


ODD_NAME = b"a\n\xff\x1b[31m"


@pytest.mark.parametrize("flag", ["--inbox", "--json", "--label=cat"])
def test_a_name_that_is_no_text_breaks_neither_line_nor_store(flag: str, state: Path, tmp_path: Path) -> None:
    folder = state / "inbox" if flag == "--inbox" else tmp_path / "in"
    good = write_png(folder / os.fsdecode(ODD_NAME + b".png"), 1)
    bad = folder / os.fsdecode(ODD_NAME + b"2.png")
    bad.write_text("text")
    for path in (good, bad):
        os.utime(path, (1, 1))
    ran = run_mmd("ingest", *([flag] if flag == "--inbox" else [flag, folder, good]), state=state)
    assert ran.code == 3
    assert len(ran.error_lines) == (0 if flag == "--json" else 1)
    assert stored(state) == 1
    assert len(run_mmd("samples", state=state).out.splitlines()) == 1


def test_sensor_windows_are_stored_with_the_labels_of_their_folders(tmp_path: Path) -> None:
    state = initialised_state(tmp_path, shape=(12,))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "windows" / name).mkdir(parents=True)
        for number in range(3):
            np.save(tmp_path / "windows" / name / f"{number}.npy", rng.normal(size=12))
        np.savetxt(tmp_path / "windows" / name / "3.csv", rng.normal(size=12), header="value", comments="")
    ran = call_mmd("ingest", tmp_path / "windows", state=state)
    assert (ran.code, ran.out.split(" (")[0]) == (0, "stored 8")
    with SampleStore(state / "samples.db") as store:
        assert class_counts(store) == {"cat": 4, "dog": 4}


def test_a_recording_is_refused_by_a_set_of_tensors(tmp_path: Path) -> None:
    state = initialised_state(tmp_path, shape=(12,))
    (tmp_path / "a.wav").write_bytes(b"RIFF\xff")
    ran = call_mmd("ingest", tmp_path / "a.wav", state=state)
    assert ran.code == 3
    assert "is no array and no CSV in UTF-8, and this artifact set takes tensor 12" in ran.err
