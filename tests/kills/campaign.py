"""What do a thousand kills at random instants cost? `python -m tests.kills.campaign --kills 1000`, `make kill-test`.

Each kill is a SIGKILL at a random instant to a process that ingests, trains, promotes or forgets. It is forked from
this one, which has everything imported, so that most instants lie in the work itself. After each kill: every sample
that was acknowledged is there, every model on disk verifies, and one serves. Each round that was killed on the way must
end in the very bits of a round that was left alone.
"""

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import write_class_folders
from tests.tiny import CLASSES, GOLDEN, SHAPE, tiny_board

from mmd.artifact.card import generation_folder, generations, read_model
from mmd.config import SamplesConfig
from mmd.layout import StateDir
from mmd.promotion.forgetting import forget_samples
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_outcome
from mmd.samples.find import find
from mmd.samples.form import SampleForm
from mmd.samples.ingest import ingest
from mmd.samples.store import SampleStore
from mmd.supervisor import trainer
from mmd.supervisor.rounds import begin_round, finish_round

RESULTS = ("candidate/mentee.onnx", "candidate/parameters.safetensors", "candidate/card.json", "verdict.json")
WORKING_PARTS = ("mmd.supervisor.workshop", "mmd.training.portable", "mmd.training.step_graph", "safetensors.numpy")
"""What a trainer imports in the end; whoever is forked from here has it already."""
FORM = SampleForm("image", SHAPE, CLASSES)


@dataclass
class Tally:
    """What was done, and what was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    """Runs that reached their end, most of them after some kills."""
    acknowledged: int = 0

    def told(self) -> str:
        kills = ", ".join(f"{count} while it {what}" for what, count in sorted(self.kills.items()))
        done = ", ".join(f"{count} times {what}" for what, count in sorted(self.completed.items()))
        return (
            f"{self.kills.total()} kills ({kills}): 0 of {self.acknowledged} acknowledged samples lost, 0 half models, "
            f"the same final bits. Brought to the end all the same: {done}."
        )


class Campaign:
    """Kills until there were enough. Raises `AssertionError` at the first promise that does not hold."""

    def __init__(self, work: Path, *, seed: int) -> None:
        for name in WORKING_PARTS:
            importlib.import_module(name)
        self._work = work
        self._rng = random.Random(seed)
        self.tally = Tally()
        self._pictures = write_class_folders(work / "pictures", {"a": 40, "b": 40})
        board = tiny_board(work / "begun", GOLDEN, epochs=12, replay=0.25)
        with board.store() as store:
            begin_round(board.state, board.config, store)
        self._begun = board.state
        alone = self._copy("alone")
        self._train_seconds = self._run("trained", lambda: _train(alone))
        self._expected = {name: (alone.rounds / "0001" / name).read_bytes() for name in RESULTS}
        self._finish_seconds = self._run("promoted", lambda: _finish(alone))
        self._forget_seconds = self._run("forgot", lambda: _forget(alone))
        path = self._new_store("alone")
        with open(os.devnull, "wb") as nobody:  # noqa: PTH123 (its descriptor is wanted)
            self._ingest_seconds = self._run("ingested", lambda: _ingest(path, self._pictures, nobody.fileno()))

    def go(self, kills: int, *, until: float = float("inf")) -> Tally:
        """Kill `kills` times, or until the monotonic clock says `until`."""
        number = 0
        while self.tally.kills.total() < kills and time.monotonic() < until:
            number += 1
            self._ingest(number)
            state = self._copy(str(number))
            self._train_to_the_end(state)
            self._promote(state)
            self._forget(state)
            shutil.rmtree(state.root)
        return self.tally

    def _copy(self, name: str) -> StateDir:
        shutil.copytree(self._begun.root, self._work / name, symlinks=True)
        return StateDir(self._work / name)

    def _new_store(self, name: str) -> Path:
        path = self._work / f"{name}.db"
        SampleStore.create(path, FORM, holdout_fraction=0.25).close()
        return path

    # The victims.

    def _ingest(self, number: int) -> None:
        path = self._new_store(str(number))
        read, write = os.pipe()
        self._kill("ingested", lambda: _ingest(path, self._pictures, write), within=self._ingest_seconds)
        os.close(write)
        with os.fdopen(read) as said:
            acknowledged = {line.strip() for line in said if line.endswith("\n")}
        with SampleStore(path, check=True) as store:
            stored = {record.id for record in store.records()}
            store.load(sorted(stored))
        assert acknowledged <= stored, "an acknowledged sample is lost"
        self.tally.acknowledged += len(acknowledged)
        path.unlink()

    def _train_to_the_end(self, state: StateDir) -> None:
        folder = state.rounds / "0001"
        while not (folder / "verdict.json").exists():
            self._kill("trained", lambda: _train(state), within=self._train_seconds)
            self._check_models(state)
        for name, expected in self._expected.items():
            assert (folder / name).read_bytes() == expected, f"{name} differs from that of an undisturbed round"
        self.tally.completed["trained"] += 1

    def _promote(self, state: StateDir) -> None:
        while read_outcome(state.rounds / "0001") is None:
            self._kill("promoted", lambda: _finish(state), within=1.5 * self._finish_seconds)
            serving = self._check_models(state)
            assert serving in (0, 1)
        _finish(state)
        assert self._check_models(state) == 1
        assert ModelStore(state).current().model == self._expected["candidate/mentee.onnx"]
        self.tally.completed["promoted"] += 1

    def _forget(self, state: StateDir) -> None:
        with SampleStore(state.samples_db) as store:
            before = set(store.training_ids())
        for _ in range(3):
            self._kill("forgot", lambda: _forget(state), within=1.5 * self._forget_seconds)
            self._check_models(state)
            with SampleStore(state.samples_db, check=True) as store:
                if len(set(store.training_ids())) < len(before):
                    break
        else:
            _forget(state)
        with SampleStore(state.samples_db, check=True) as store:
            left = set(store.training_ids())
            forgotten = before - left
            assert store.counts().new == len(left), "the next round would not learn again what went with the model"
        ModelStore(state).drop_generations_that_saw(forgotten)
        assert len(forgotten) == 1
        assert self._check_models(state) == 0
        assert generations(state.models) == [0], "a model that saw the sample is left"
        assert not list(state.models.glob(".gen-*"))
        self.tally.completed["forgot"] += 1

    def _check_models(self, state: StateDir) -> int:
        """Hold that every model on disk is whole and that one serves; return its number."""
        for number in generations(state.models):
            read_model(generation_folder(state.models, number))
        return ModelStore(state).current().card.generation

    # Processes.

    def _kill(self, what: str, work: Callable[[], None], *, within: float) -> None:
        with forked(work) as pid:
            time.sleep(self._rng.uniform(0.0, within))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            self.tally.kills[what] += 1
        else:
            assert os.waitstatus_to_exitcode(status) == 0, f"it {what}, and failed"

    def _run(self, what: str, work: Callable[[], None]) -> float:
        """Let `work` be done by a process that nobody disturbs; return how long it took."""
        began = time.monotonic()
        with forked(work) as pid:
            _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, f"undisturbed it {what}, and failed"
        return time.monotonic() - began


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Do `work` in a copy of this process, which says nothing."""
    pid = os.fork()
    if pid:
        yield pid
        return
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        work()
    except BaseException as error:  # noqa: BLE001 (a copy must never go on as the original)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def _train(state: StateDir) -> None:
    assert trainer.main(["--state-dir", str(state.root), "--round", "1"]) == 0


def _finish(state: StateDir) -> None:
    with SampleStore(state.samples_db) as store:
        finish_round(state, 1, store)


def _forget(state: StateDir) -> None:
    """Forget one sample as `mmd forget` does."""
    with SampleStore(state.samples_db, check=True) as store:
        forget_samples(ModelStore(state), store, store.training_ids()[:1])


def _ingest(path: Path, pictures: Path, write: int) -> None:
    with SampleStore(path) as store:
        for result in ingest(store, find(pictures, store.form), SamplesConfig()):
            os.write(write, "".join(f"{added.id}\n" for added in result.added).encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmd-kills-") as work:
        campaign = Campaign(Path(work), seed=options.seed)
        print(campaign.go(options.kills, until=time.monotonic() + options.seconds).told())
    return 0


if __name__ == "__main__":
    sys.exit(main())
