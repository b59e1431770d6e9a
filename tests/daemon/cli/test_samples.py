"""Does `mmd samples` list what is stored, for people and for programs?"""

import json
from pathlib import Path

import pytest
from tests.support import call_mmd, initialised_state, write_class_folders, write_png

from mmd.samples.store import SampleStore


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = initialised_state(tmp_path)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 8, "dog": 8}), state=state)
    call_mmd("ingest", write_png(tmp_path / "u.png", 1000), state=state)
    return state


def test_json_has_every_sample(state: Path) -> None:
    listed = json.loads(call_mmd("samples", "--json", state=state).out)
    assert len(listed) == 17
    assert set(listed[0]) == {"id", "label", "holdout", "seen_in_round", "ingested", "source", "bytes"}
    assert listed[-1]["label"] is None


def test_a_pipe_gets_one_plain_line_a_sample(state: Path) -> None:
    lines = call_mmd("samples", state=state).out.splitlines()
    assert len(lines) == 17
    identifier, label, part, seen, _, source = lines[0].split("\t")
    assert (len(identifier), label, seen, source) == (12, "cat", "-", "cat/000.png")
    assert part in ("holdout", "training")


def test_only_the_unlabelled(state: Path) -> None:
    (line,) = call_mmd("samples", "--unlabelled", state=state).out.splitlines()
    assert line.endswith("u.png")


def test_only_the_held_out(state: Path) -> None:
    listed = json.loads(call_mmd("samples", "--holdout", "--json", state=state).out)
    with SampleStore(state / "samples.db") as store:
        assert {one["id"] for one in listed} == set(store.holdout_ids())


def test_a_terminal_gets_a_table_with_a_total(state: Path) -> None:
    out = call_mmd("samples", state=state, on_terminal=True).out
    assert "17 samples: 16 labelled, 1 unlabelled" in out


def test_without_init_it_says_what_to_do(tmp_path: Path) -> None:
    ran = call_mmd("samples", state=tmp_path / "nothing")
    assert ran.code == 2
    assert "mmd init" in ran.err
