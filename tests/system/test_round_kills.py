"""Does a round end with the same bits, however its trainer process is killed, stopped or damaged on the way?"""

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from tests.support import run_mmd
from tests.tiny import tiny_board

from mmd.augmentation import Augmentation
from mmd.config import Config, GateConfig
from mmd.errors import StoreDamaged
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_outcome
from mmd.samples.store import SampleStore
from mmd.supervisor.progress import open_round
from mmd.supervisor.rounds import begin_round, finish_round, trainer_command

RESULTS = ("candidate/mentee.onnx", "candidate/parameters.safetensors", "candidate/card.json", "verdict.json")
Act = Callable[["subprocess.Popen[str]", dict[str, Any]], None]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> StateDir:
    """A state folder whose round 1 has a plan of 150 steps and nothing else yet."""
    varied = Augmentation(shift_pixels=0.5, contrast=0.2)
    folder = tmp_path_factory.mktemp("begun") / "state"
    board = tiny_board(folder, tiny_set, epochs=30, replay=0.25, views=3, augmentation=varied)
    with board.store() as store:
        begin_round(board.state, board.config, store)
    return board.state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, begun: StateDir) -> dict[str, bytes]:
    state = copied(begun, tmp_path_factory.mktemp("undisturbed"))
    assert train(state)[-1]["event"] == "verdict"
    return results(state)


@pytest.fixture
def state(tmp_path: Path, begun: StateDir) -> StateDir:
    return copied(begun, tmp_path)


def copied(begun: StateDir, folder: Path) -> StateDir:
    shutil.copytree(begun.root, folder / "state", symlinks=True)
    return StateDir(folder / "state")


def results(state: StateDir) -> dict[str, bytes]:
    folder = state.rounds / "0001"
    return {name: (folder / name).read_bytes() for name in (*RESULTS, "losses.jsonl")}


def train(state: StateDir, act: Act | None = None) -> list[dict[str, Any]]:
    """Run the trainer child, doing `act` at every event; return the events that arrived."""
    events = []
    with subprocess.Popen(trainer_command(state, 1), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if not line.endswith("\n"):
                break  # killed in mid-sentence
            events.append(json.loads(line))
            if act is not None:
                act(child, events[-1])
        child.wait(60)
    return events


def send(number: signal.Signals, *, at: int | str) -> Act:
    """Return what sends a signal at step `at`, or at the event of that name."""

    def act(child: "subprocess.Popen[str]", event: dict[str, Any]) -> None:
        if at in (event["event"], event.get("step")):
            child.send_signal(number)

    return act


def test_a_round_killed_again_and_again_ends_with_the_same_bits(state: StateDir, undisturbed: dict[str, bytes]) -> None:
    rng = random.Random(1)
    furthest = 0
    for _ in range(6):
        events = train(state, send(signal.SIGKILL, at=rng.randint(furthest + 1, furthest + 30)))
        assert events[-1]["event"] == "step"
        furthest = events[-1]["step"]
    assert train(state)[-1]["event"] == "verdict"
    assert results(state) == undisturbed


@pytest.mark.slow
def test_a_hundred_kills_at_random_instants_change_no_bit(
    tmp_path: Path, begun: StateDir, undisturbed: dict[str, bytes]
) -> None:
    rng = random.Random(2)
    kills = rounds = 0
    while kills < 100:
        rounds += 1
        state = copied(begun, tmp_path / str(rounds))
        while not (state.rounds / "0001" / "verdict.json").exists():
            left = rng.randint(1, 60)

            def act(child: "subprocess.Popen[str]", event: dict[str, Any]) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    child.kill()

            train(state, act)
            kills += left <= 0
        assert results(state) == undisturbed


@pytest.mark.parametrize("at", ["preparing", "evaluating"])
def test_killed_outside_the_steps_it_ends_with_the_same_bits(
    state: StateDir, undisturbed: dict[str, bytes], at: str
) -> None:
    train(state, send(signal.SIGKILL, at=at))
    assert train(state)[-1]["event"] == "verdict"
    assert results(state) == undisturbed


def test_asked_to_leave_it_makes_a_checkpoint_and_goes_on_to_the_same_bits(
    state: StateDir, undisturbed: dict[str, bytes]
) -> None:
    events = train(state, send(signal.SIGTERM, at=33))
    assert events[-1]["event"] == "stopped"
    assert open_round(state) == 1
    resumed = train(state)
    first = next(event["step"] for event in resumed if event["event"] == "step")
    assert first == events[-1]["step"] + 1
    assert results(state) == undisturbed


def test_stopped_in_place_and_continued_it_ends_with_the_same_bits(
    state: StateDir, undisturbed: dict[str, bytes]
) -> None:
    def act(child: "subprocess.Popen[str]", event: dict[str, Any]) -> None:
        if event.get("step") == 40:
            child.send_signal(signal.SIGSTOP)
            child.send_signal(signal.SIGCONT)

    assert train(state, act)[-1]["event"] == "verdict"
    assert results(state) == undisturbed


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_are_named_and_cost_only_steps(
    state: StateDir, undisturbed: dict[str, bytes], damaged: int
) -> None:
    train(state, send(signal.SIGKILL, at=60))
    newest = sorted((state.rounds / "0001" / "checkpoints").iterdir(), reverse=True)
    for path in newest[:damaged]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    notices = [event["message"] for event in train(state) if event["event"] == "notice"]
    assert newest[0].stem in notices[0]
    assert "Resuming from step" in notices[-1] or notices[-1] == "Beginning the round again."
    assert results(state) == undisturbed


@pytest.mark.parametrize("damage", ["bytes changed", "cut off", "gone"])
def test_a_damaged_cache_is_made_again_to_the_same_bits(
    state: StateDir, undisturbed: dict[str, bytes], damage: str
) -> None:
    train(state, send(signal.SIGKILL, at=20))
    content = bytearray(state.cache_db.read_bytes())
    state.cache_db.unlink()
    if damage != "gone":
        content[40_000::1000] = bytes(len(content[40_000::1000]))
        state.cache_db.write_bytes(content[:50_000] if damage == "cut off" else content)
    train(state)
    assert results(state) == undisturbed


def test_killed_between_verdict_and_promotion_the_next_command_promotes(
    state: StateDir, undisturbed: dict[str, bytes]
) -> None:
    train(state)
    ran = run_mmd("train", "--force", "--json", state=state.root)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["generation"] == 1
    serving = ModelStore(state).current()
    assert serving.model == undisturbed["candidate/mentee.onnx"]
    assert open_round(state) is None


def test_a_candidate_damaged_before_promotion_is_made_again_to_the_same_bits(
    state: StateDir, undisturbed: dict[str, bytes]
) -> None:
    train(state)
    (state.rounds / "0001" / "candidate" / "mentee.onnx").write_bytes(b"broken")
    with SampleStore(state.samples_db) as store:
        with pytest.raises(StoreDamaged, match="checksum"):
            finish_round(state, 1, store)
        assert train(state)[-1]["event"] == "verdict"
        assert results(state) == undisturbed
        assert finish_round(state, 1, store).outcome == "promoted"


def test_a_sample_forgotten_in_mid_round_abandons_it(state: StateDir) -> None:
    forgotten = []

    def act(child: "subprocess.Popen[str]", event: dict[str, Any]) -> None:
        if event.get("step") == 30 and not forgotten:
            with SampleStore(state.samples_db) as store:
                forgotten.append(store.training_ids()[0])
            assert run_mmd("forget", forgotten[0][:14], state=state.root).code == 0
            assert bytes.fromhex(forgotten[0]) not in state.cache_db.read_bytes()

    events = train(state, act)
    assert events[-1]["event"] == "abandoned"
    assert bytes.fromhex(forgotten[0]) not in state.cache_db.read_bytes()
    outcome = read_outcome(state.rounds / "0001")
    assert outcome is not None
    assert outcome.outcome == "abandoned"
    assert sorted(path.name for path in (state.rounds / "0001").iterdir() if not path.name.startswith(".")) == [
        "done.json",
        "losses.jsonl",
    ]
    assert ModelStore(state).current().card.generation == 0


def test_a_second_trainer_waits_until_the_first_is_gone(state: StateDir, undisturbed: dict[str, bytes]) -> None:
    second: list[list[dict[str, Any]]] = []

    def act(child: "subprocess.Popen[str]", event: dict[str, Any]) -> None:
        if event.get("step") == 20:
            child.send_signal(signal.SIGSTOP)
            rival = subprocess.Popen(trainer_command(state, 1), stdout=subprocess.PIPE, text=True)
            # The first one is gone before the second may touch the round.
            child.send_signal(signal.SIGKILL)
            out, _ = rival.communicate(timeout=60)
            second.append([json.loads(line) for line in out.splitlines()])

    train(state, act)
    assert second[0][-1]["event"] == "verdict"
    assert results(state) == undisturbed


def test_fold_models_and_the_choice_of_a_candidate_keep_the_promise_too(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "begun", tiny_set, epochs=8, replay=0.25, memory=True, blends=(0.5, 1.0))
    with board.store() as store:
        plan = begin_round(board.state, Config(training=board.config.training, gate=GateConfig(folds=2)), store)
    alone, disturbed = copied(board.state, tmp_path / "alone"), copied(board.state, tmp_path / "disturbed")
    train(alone)
    in_both_folds_and_after = (7, plan.fold_steps[0] + 7, sum(plan.fold_steps) + 7)
    for step in in_both_folds_and_after:
        assert train(disturbed, send(signal.SIGKILL, at=step))[-1]["step"] >= step
    train(disturbed, send(signal.SIGKILL, at="evaluating"))
    assert train(disturbed)[-1]["event"] == "verdict"
    assert results(disturbed) == results(alone)


@pytest.mark.parametrize("engine", ["ort_training"])
def test_the_other_engine_keeps_the_promise_too(tmp_path: Path, tiny_set: Path, engine: str) -> None:
    if not any(name.metadata["Name"] == "onnxruntime-training-cpu" for name in distributions()):
        pytest.skip("the training build of onnxruntime is not installed here")
    board = tiny_board(tmp_path / "begun", tiny_set, epochs=8, replay=0.25, engine=engine)
    with board.store() as store:
        begin_round(board.state, board.config, store)
    alone, disturbed = copied(board.state, tmp_path / "alone"), copied(board.state, tmp_path / "disturbed")
    train(alone)
    train(disturbed, send(signal.SIGKILL, at=13))
    train(disturbed)
    assert results(disturbed) == results(alone)
