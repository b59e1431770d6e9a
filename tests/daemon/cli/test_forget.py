"""Does `mmd forget` remove samples with every trace, and name the models that saw them?"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.support import call_mmd, class_counts, initialised_state, run_mmd, write_class_folders, write_json

from mmd.artifact.card import generation_folder, generations, linked_generation, read_card
from mmd.layout import StateDir
from mmd.promotion.forgetting import forget_samples
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import RoundOutcome, read_outcome, write_outcome
from mmd.samples.row_cache import RowCache
from mmd.samples.store import SampleStore
from mmd.supervisor.progress import is_failure


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    root = initialised_state(tmp_path)
    call_mmd("ingest", write_class_folders(tmp_path / "in", {"cat": 10, "dog": 10}), state=root)
    return StateDir(root)


def training_ids(state: StateDir) -> list[str]:
    with SampleStore(state.samples_db) as store:
        return store.training_ids()


def add_generation(state: StateDir, number: int, sample_ids: Sequence[str]) -> None:
    """Install and serve a generation that learned from `sample_ids`."""
    shipped = generation_folder(state.models, 0)
    card = msgspec.structs.replace(
        read_card(shipped), generation=number, round=number, parent=number - 1, sample_ids=tuple(sample_ids)
    )
    models = ModelStore(state)
    model, parameters = ((shipped / name).read_bytes() for name in ("mentee.onnx", "parameters.safetensors"))
    models.install(card, model, parameters)
    models.serve(number)


def test_one_sample_is_forgotten_by_the_beginning_of_its_id(state: StateDir) -> None:
    identifier = training_ids(state)[0]
    ran = call_mmd("forget", identifier[:14], state=state.root)
    assert (ran.code, ran.out, ran.err) == (0, "Forgot 1 sample.\n", "")
    assert identifier not in training_ids(state)


def test_all_of_one_label_are_forgotten(state: StateDir) -> None:
    assert call_mmd("forget", "--label", "dog", "--yes", state=state.root).out == "Forgot 10 samples.\n"
    with SampleStore(state.samples_db) as store:
        assert class_counts(store) == {"cat": 10}


def test_everything_is_forgotten(state: StateDir) -> None:
    assert call_mmd("forget", "--all", "--yes", state=state.root).code == 0
    with SampleStore(state.samples_db) as store:
        assert store.counts().total == 0


def test_nothing_to_forget_is_said(state: StateDir) -> None:
    call_mmd("forget", "--all", "--yes", state=state.root)
    assert call_mmd("forget", "--all", "--yes", state=state.root).out == "There is nothing to forget.\n"


def test_many_are_not_forgotten_without_being_sure(state: StateDir) -> None:
    ran = call_mmd("forget", "--all", state=state.root)
    assert ran.code == 2
    assert "--yes" in ran.err
    with SampleStore(state.samples_db) as store:
        assert store.counts().total == 20


@pytest.mark.parametrize("arguments", [[], ["ab", "--all"], ["--all", "--label", "cat"]])
def test_what_to_forget_must_be_said_in_one_way(state: StateDir, arguments: list[str]) -> None:
    assert call_mmd("forget", *arguments, state=state.root).code == 2


def test_an_unknown_id_forgets_nothing(state: StateDir) -> None:
    ran = call_mmd("forget", training_ids(state)[0], "zzz", state=state.root)
    assert (ran.code, len(ran.error_lines)) == (3, 1)
    with SampleStore(state.samples_db) as store:
        assert store.counts().total == 20


def test_models_that_saw_it_are_named_and_the_newest_before_it_serves(state: StateDir) -> None:
    ids = training_ids(state)
    add_generation(state, 1, ids[:3])
    add_generation(state, 2, ids[:5])
    add_generation(state, 3, ids)
    with SampleStore(state.samples_db) as store:
        store.mark_seen(3, ids)
    ran = call_mmd("forget", ids[4], state=state.root)
    assert ran.out.splitlines() == [
        "Forgot 1 sample.",
        "Dropped the models that saw them: generation 2, 3. Generation 1 serves.",
    ]
    assert generations(state.models) == [0, 1]
    assert linked_generation(state.models) == 1
    with SampleStore(state.samples_db) as store:
        assert store.counts().new == len(ids) - 1


@pytest.mark.parametrize("is_before", [True, False])
def test_what_a_dropped_model_had_learned_is_learned_again_even_after_a_kill(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    class Killed(BaseException):
        pass

    ids = training_ids(state)
    add_generation(state, 1, ids)
    real = SampleStore.forget

    def killed(store: SampleStore, chosen: Sequence[str]) -> int:
        if not is_before:
            real(store, chosen)
        raise Killed

    with SampleStore(state.samples_db) as store:
        store.mark_seen(1, ids)
        monkeypatch.setattr(SampleStore, "forget", killed)
        with pytest.raises(Killed):
            forget_samples(ModelStore(state), store, ids[:1])
    assert generations(state.models) == [0]
    with SampleStore(state.samples_db) as store:
        assert store.counts().new == len(store.training_ids()) > 0


def test_models_that_never_saw_it_stay(state: StateDir) -> None:
    ids = training_ids(state)
    add_generation(state, 1, ids[:3])
    assert call_mmd("forget", ids[4], state=state.root).out == "Forgot 1 sample.\n"
    assert linked_generation(state.models) == 1


def test_the_open_round_that_trains_on_it_is_abandoned_with_its_checkpoints(state: StateDir) -> None:
    ids = training_ids(state)
    folder = state.rounds / "0001"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "trace").write_bytes(b"trace")
    write_json(folder / "plan.json", {"number": 1, "sample_ids": ids})
    call_mmd("forget", ids[0], state=state.root)
    assert [path.name for path in folder.iterdir()] == ["done.json"]
    outcome = read_outcome(folder)
    assert outcome is not None
    assert outcome.outcome == "abandoned"
    assert not is_failure(outcome), "the next round does not wait as after a failure"


def test_no_round_names_it_any_more_and_those_that_were_closed_keep_their_end(state: StateDir) -> None:
    ids = training_ids(state)
    for number, (saw, outcome) in enumerate([(ids, "promoted"), (ids[1:], "rejected")], 1):
        folder = state.rounds / f"{number:04d}"
        folder.mkdir(parents=True)
        write_json(folder / "plan.json", {"number": number, "sample_ids": saw})
        write_outcome(folder, RoundOutcome(round=number, outcome=outcome, reason="", finished=0.0))
    (state.rounds / "0002" / ".plan.json.77.tmp").write_text(f'{{"sample_ids": ["{ids[0]}"')  # left by a kill
    call_mmd("forget", ids[0], state=state.root)
    assert [path.parent.name for path in state.rounds.rglob("plan.json")] == ["0002"]
    ended = [read_outcome(state.rounds / name) for name in ("0001", "0002")]
    assert [each.outcome for each in ended if each] == ["promoted", "rejected"]
    for path in state.root.rglob("*"):
        assert not path.is_file() or ids[0].encode() not in path.read_bytes(), path


def test_no_byte_of_it_is_left_in_the_state_folder(state: StateDir) -> None:
    with SampleStore(state.samples_db) as store:
        identifier = store.training_ids()[0]
        content = store.load([identifier])[0].tobytes()
    with RowCache(state.cache_db, "scope") as cache, cache.writing():
        cache.write({bytes.fromhex(identifier) + b"\0\1v": content})
    run_mmd("forget", identifier, state=state.root)
    for path in state.root.rglob("*"):
        if path.is_file():
            assert content not in path.read_bytes(), path
